//! `time_budget`: the model was loaded within the planned time.

use super::expectation::Expectation;
use super::verdict::{Verdict, without_evidence};
use crate::measurement::Measurement;
use modelgate_model::units::{format_bytes, format_duration};
use modelgate_protocol::{Activity, ActivityName};
use std::time::Duration;

/// Compares the load time with `cached`, or with `first` if files were downloaded.
pub(super) fn check(measurement: &Measurement, expectation: &Expectation) -> Verdict {
    let downloaded = measurement.downloaded_bytes > 0;
    let budget = if downloaded { expectation.load_first } else { expectation.load_cached };
    let action = if downloaded { "download and load" } else { "load" };
    let expected = format!("{action} within {}", format_duration(budget.value));
    let Some(load) = measurement.load_s else {
        return without_evidence(measurement, expected, false);
    };
    let acquire = measurement.acquire_s.filter(|_| downloaded).map_or(0.0, |s| s.get());
    let elapsed = Duration::from_secs_f64((load.get() + acquire).max(0.0));
    let observed = format!("{action} took {}", format_duration(elapsed));
    let verdict = Verdict::passed(expected, observed, budget.derived);
    if elapsed <= budget.value {
        return verdict;
    }
    verdict.failed(
        format!(
            "{action} took {}, {:.1} times the budget of {}{}",
            format_duration(elapsed),
            elapsed.as_secs_f64() / budget.value.as_secs_f64(),
            format_duration(budget.value),
            busiest_activity(&measurement.activities)
        ),
        "compare each activity with its ceiling in the report (a slow disk, a cold page cache or \
         busy cores); or set expect.load_time to a longer time",
    )
}

/// Activities after the load.
const AFTER_LOAD: [ActivityName; 2] = [ActivityName::Prefill, ActivityName::Decode];

/// Returns a note on the activity of the load with the longest busy time, and its fraction of the
/// ceiling of the hardware. Empty if there was no activity.
fn busiest_activity(activities: &[Activity]) -> String {
    let of_load = activities.iter().filter(|a| !AFTER_LOAD.contains(&a.name));
    let longest = of_load.max_by(|a, b| a.busy_s.get().total_cmp(&b.busy_s.get()));
    longest.map_or(String::new(), |activity| {
        let ceiling_part = match (activity.ceiling_bytes_per_s, activity.ceiling_fraction()) {
            (Some(ceiling), Some(fraction)) => format!(
                ", {:.0} % of the {}/s that this host can reach",
                100.0 * fraction.get(),
                format_bytes(ceiling.get() as u64)
            ),
            _ => String::new(),
        };
        format!(
            "; the busiest activity was {}: {} in {:.1} s{ceiling_part}",
            activity.name,
            format_bytes(activity.bytes),
            activity.busy_s.get()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelgate_protocol::Finite;

    fn activity(name: ActivityName, bytes: u64, busy_s: f64, ceiling: Option<f64>) -> Activity {
        Activity {
            name,
            bytes,
            busy_s: Finite::new(busy_s).expect("finite"),
            ceiling_bytes_per_s: ceiling.and_then(Finite::new),
        }
    }

    #[test]
    fn the_slowest_activity_is_named_with_its_ceiling() {
        let read = activity(ActivityName::Read, 40_000_000_000, 20.0, Some(50e9));
        let copy = activity(ActivityName::Copy, 40_000_000_000, 1.0, Some(55e9));
        // this activity was busy longer, but not during the load
        let decode = activity(ActivityName::Decode, 40_000_000_000, 90.0, None);
        assert_eq!(
            busiest_activity(&[copy.clone(), read, decode]),
            "; the busiest activity was read: 40.0 GB in 20.0 s, 4 % of the 50.0 GB/s that this \
             host can reach"
        );
        let unknown = activity(ActivityName::Quantize, 1_000_000, 2.0, None);
        assert_eq!(
            busiest_activity(&[copy, unknown]),
            "; the busiest activity was quantize: 1.00 MB in 2.0 s"
        );
        assert_eq!(busiest_activity(&[activity(ActivityName::Decode, 1, 1.0, None)]), "");
    }
}

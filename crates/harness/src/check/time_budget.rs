//! `time_budget`: the model was loaded within the planned time.

use super::expectation::Expectation;
use super::verdict::{Verdict, without_evidence};
use crate::measurement::Measurement;
use modelgate_model::units::{format_bytes, format_duration};
use modelgate_protocol::{Activity, ActivityName, Finite};
use std::time::Duration;

/// Compares the load time with `cached`, or with `first` if files were downloaded.
pub(super) fn check(measurement: &Measurement, expectation: &Expectation) -> Verdict {
    let downloaded = measurement.downloaded_bytes > 0;
    let budget = if downloaded { expectation.load_first } else { expectation.load_cached };
    let action = if downloaded { "download and load" } else { "load" };
    let expected = format!("{action} within {}", format_duration(budget.value));
    let acquire = if downloaded { measurement.acquire_s.map(Finite::get) } else { Some(0.0) };
    let (Some(load), Some(acquire)) = (measurement.load_s, acquire) else {
        return without_evidence(measurement, expected, false);
    };
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
    use crate::check::expectation::{ExpectedValue, tests::expectation};
    use crate::check::kind::Check;
    use crate::check::verdict::Status;
    use crate::measurement::Outcome;
    use modelgate_protocol::{Failure, FailureKind, Stage};

    /// Returns an expectation of 20 s, and of 60 s with a download.
    fn budgets() -> Expectation {
        Expectation {
            load_cached: ExpectedValue::or(Some(Duration::from_secs(20)), Duration::ZERO),
            load_first: ExpectedValue::or(None, Duration::from_secs(60)),
            ..expectation("none")
        }
    }

    /// Returns the verdict on a load after acquiring the files, of which a part was downloaded.
    fn verdict(downloaded_bytes: u64, acquire_s: f64, load_s: f64) -> Verdict {
        let measurement = Measurement {
            outcome: Outcome::Measured,
            downloaded_bytes,
            acquire_s: Finite::new(acquire_s),
            load_s: Finite::new(load_s),
            ..Measurement::empty()
        };
        Check::TimeBudget.verdict(&measurement, &budgets())
    }

    #[test]
    fn the_budget_is_cached_or_first_and_inclusive() {
        let passed = Status::Passed;
        let failed = Status::Failed;
        for (downloaded_bytes, acquire_s, load_s, status) in [
            (0, 0.0, 0.0, passed),
            (0, 0.0, 19.999, passed),
            (0, 0.0, 20.0, passed),
            (0, 0.0, 20.001, failed),
            // the time to verify cached files does not count
            (0, 500.0, 20.0, passed),
            (0, 500.0, 20.5, failed),
            // one downloaded byte selects the budget with the download
            (1, 0.0, 20.5, passed),
            (1, 39.0, 20.5, passed),
            (1, 39.5, 20.5, passed),
            (1, 39.75, 20.5, failed),
            (1, 60.0, 0.0, passed),
            (1, 60.25, 0.0, failed),
            (9_000_000_000, 0.0, 60.0, passed),
            (9_000_000_000, 0.0, 60.25, failed),
            (9_000_000_000, 30.5, 30.0, failed),
        ] {
            let verdict = verdict(downloaded_bytes, acquire_s, load_s);
            assert_eq!(verdict.status, status, "{downloaded_bytes} {acquire_s} {load_s}");
            assert_eq!(verdict.derived, downloaded_bytes > 0, "only `first` is derived");
        }
    }

    #[test]
    fn the_verdict_names_the_action_and_its_times() {
        let cached = verdict(0, 5.0, 12.0);
        assert_eq!(cached.expected, "load within 20 s");
        assert_eq!(cached.observed, "load took 12 s");
        let first = verdict(1, 5.0, 12.0);
        assert_eq!(first.expected, "download and load within 60 s");
        assert_eq!(first.observed, "download and load took 17 s");
        let late = verdict(1, 60.0, 30.0);
        assert_eq!(
            late.message.as_deref(),
            Some("download and load took 90 s, 1.5 times the budget of 60 s")
        );
        assert!(late.hint.is_some_and(|hint| hint.contains("expect.load_time")));
    }

    #[test]
    fn a_missing_time_is_blocked() {
        let measured = Measurement {
            outcome: Outcome::Measured,
            downloaded_bytes: 1,
            acquire_s: Finite::new(1.0),
            load_s: Finite::new(1.0),
            ..Measurement::empty()
        };
        let status =
            |measurement: &Measurement| Check::TimeBudget.verdict(measurement, &budgets()).status;
        assert_eq!(status(&measured), Status::Passed);
        let without_acquire = Measurement { acquire_s: None, ..measured.clone() };
        assert_eq!(status(&without_acquire), Status::Blocked);
        let cached = Measurement { downloaded_bytes: 0, ..without_acquire };
        assert_eq!(status(&cached), Status::Passed, "without a download, only the load counts");
        assert_eq!(status(&Measurement { load_s: None, ..measured }), Status::Blocked);
        // the failure of the load is the subject of `load`
        let failure = Failure::new(Stage::Load, FailureKind::Corrupt, "a message", "a hint");
        let failed = Measurement {
            outcome: Outcome::Failed,
            failure: Some(failure),
            load_s: None,
            ..cached
        };
        let blocked = Check::TimeBudget.verdict(&failed, &budgets());
        assert_eq!(blocked.status, Status::Blocked);
        assert_eq!(blocked.message.as_deref(), Some("corrupt (load): a message"));
    }

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
    #[test]
    fn only_a_late_load_names_its_slowest_activity() {
        let measurement = Measurement {
            outcome: Outcome::Measured,
            load_s: Finite::new(30.0),
            activities: vec![
                activity(ActivityName::Prefill, 1_000_000_000, 99.0, Some(1e9)),
                activity(ActivityName::Read, 40_000_000_000, 25.0, Some(3.2e9)),
            ],
            ..Measurement::empty()
        };
        let late = Check::TimeBudget.verdict(&measurement, &budgets());
        assert_eq!(
            late.message.as_deref(),
            Some(
                "load took 30 s, 1.5 times the budget of 20 s; the busiest activity was read: 40.0 \
                 GB in 25.0 s, 50 % of the 3.20 GB/s that this host can reach"
            )
        );
    }
}

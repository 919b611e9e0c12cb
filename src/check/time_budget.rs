//! `time_budget`: the model was loaded in the time that was planned.

use super::{Expectation, Verdict, without_evidence};
use crate::manifest::format_duration;
use modelgate_protocol::{Activity, Measurement};
use std::time::Duration;

/// Holds the load time against `cached`, or with the download against `first`.
pub(super) fn check(measurement: &Measurement, expectation: &Expectation) -> Verdict {
    let downloaded = measurement.downloaded_bytes > 0;
    let budget = if downloaded { expectation.load_first } else { expectation.load_cached };
    let what = if downloaded { "download and load" } else { "load" };
    let expected = format!("{what} within {}", format_duration(budget.value));
    let Some(load) = measurement.load_s else {
        return without_evidence(measurement, expected, false);
    };
    let acquire = measurement.acquire_s.filter(|_| downloaded).map_or(0.0, |s| s.get());
    let took = Duration::from_secs_f64((load.get() + acquire).max(0.0));
    let observed = format!("{what} took {}", format_duration(took));
    let verdict = Verdict::passed(expected, observed, budget.derived);
    if took <= budget.value {
        return verdict;
    }
    verdict.failed(
        format!(
            "{what} took {}, {:.1} times the budget of {}{}",
            format_duration(took),
            took.as_secs_f64() / budget.value.as_secs_f64(),
            format_duration(budget.value),
            culprit(&measurement.activities)
        ),
        "compare each activity with its ceiling in the report: a slow disk, a cold page cache or \
         busy cores; or allow more time with expect.load_time",
    )
}

/// The activity that was busy longest.
fn culprit(activities: &[Activity]) -> String {
    let longest = activities.iter().max_by(|a, b| a.busy_s.get().total_cmp(&b.busy_s.get()));
    longest.map_or(String::new(), |activity| {
        format!(
            "; busiest was {}: {} in {:.1} s",
            activity.name,
            crate::manifest::format_bytes(activity.bytes),
            activity.busy_s.get()
        )
    })
}

//! The result of a check.

use super::kind::Check;
use crate::measurement::{Measurement, Unmeasured};
use crate::reportable::Reportable;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The result of a check on a measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The check that was applied.
    #[serde(rename = "name")]
    pub check: Check,
    /// Whether the check passed, failed, was blocked or was not selected.
    pub status: Status,
    /// The expected value.
    pub expected: String,
    /// The measured value.
    pub observed: String,
    /// Whether the expectation was derived rather than given in the manifest.
    pub derived: bool,
    /// The problem. `None` if the check passed or was not selected.
    pub message: Option<String>,
    /// How to fix it. `None` if the check passed or was not selected.
    pub hint: Option<String>,
}

/// The status of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The measurement meets the expectation.
    Passed,
    /// The measurement does not meet the expectation.
    Failed,
    /// The evidence is missing because something else failed. It never counts as passed.
    Blocked,
    /// The check was planned, but not selected in this run.
    NotSelected,
}

impl Status {
    /// Returns the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Status::Passed => "passed",
            Status::Failed => "failed",
            Status::Blocked => "blocked",
            Status::NotSelected => "not_selected",
        }
    }
}

impl Verdict {
    pub(super) fn passed(
        expected: impl Into<String>,
        observed: impl Into<String>,
        derived: bool,
    ) -> Verdict {
        Verdict {
            check: Check::Load, // set by `Check::verdict`
            status: Status::Passed,
            expected: expected.into(),
            observed: observed.into(),
            derived,
            message: None,
            hint: None,
        }
    }

    pub(super) fn failed(self, message: impl Into<String>, hint: impl Into<String>) -> Verdict {
        Verdict {
            status: Status::Failed,
            message: Some(message.into()),
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Returns the verdict of a check that was planned, but not selected in this run.
    pub fn not_selected(check: Check) -> Verdict {
        Verdict {
            check,
            status: Status::NotSelected,
            expected: String::new(),
            observed: String::new(),
            derived: false,
            message: None,
            hint: None,
        }
    }
}

/// Returns the verdict of a check without evidence: failed if `is_subject`, which means that the
/// failure of the measurement is the subject of the check; otherwise blocked.
pub(super) fn without_evidence(
    measurement: &Measurement,
    expected: String,
    is_subject: bool,
) -> Verdict {
    let failure =
        measurement.failure.clone().unwrap_or_else(|| Unmeasured::Incomplete.to_failure());
    let verdict =
        Verdict::passed(expected, "not measured", false).failed(failure.to_string(), failure.hint);
    Verdict { status: if is_subject { Status::Failed } else { Status::Blocked }, ..verdict }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelgate_protocol::{Failure, FailureKind, Stage};

    #[test]
    fn names_of_statuses_in_json_equal_displayed_names() {
        for (status, name) in [
            (Status::Passed, "passed"),
            (Status::Failed, "failed"),
            (Status::Blocked, "blocked"),
            (Status::NotSelected, "not_selected"),
        ] {
            assert_eq!(status.name(), name);
            let json = serde_json::to_string(&status).expect("serializes");
            assert_eq!(json, format!("\"{name}\""));
        }
    }

    #[test]
    fn a_failed_verdict_keeps_the_values_and_adds_the_problem() {
        let passed = Verdict::passed("expected", "observed", true);
        assert_eq!((passed.status, &passed.message, &passed.hint), (Status::Passed, &None, &None));
        let expected = Verdict {
            status: Status::Failed,
            message: Some("a message".into()),
            hint: Some("a hint".into()),
            ..passed.clone()
        };
        assert_eq!(passed.failed("a message", "a hint"), expected);
        assert_eq!(
            (expected.expected.as_str(), expected.observed.as_str()),
            ("expected", "observed")
        );
        assert!(expected.derived);
    }

    #[test]
    fn missing_evidence_never_passes() {
        for check in Check::ALL {
            let verdict = Verdict::not_selected(check);
            assert_eq!((verdict.check, verdict.status), (check, Status::NotSelected));
        }
        let failure = Failure::new(Stage::Load, FailureKind::Corrupt, "a message", "a hint");
        for (failure, message, hint) in [
            (Some(failure), "corrupt (load): a message", "a hint"),
            (
                None,
                "protocol (start): the worker did not report the values that the check needs",
                "send every event of the protocol; see schemas/event.json",
            ),
        ] {
            let measurement = Measurement { failure, ..Measurement::empty() };
            for (is_subject, status) in [(true, Status::Failed), (false, Status::Blocked)] {
                let verdict = without_evidence(&measurement, "expected".into(), is_subject);
                assert_eq!(verdict.status, status);
                assert_eq!(verdict.message.as_deref(), Some(message));
                assert_eq!(verdict.hint.as_deref(), Some(hint));
                assert_eq!(verdict.expected, "expected");
                assert_eq!((verdict.observed.as_str(), verdict.derived), ("not measured", false));
            }
        }
    }
}

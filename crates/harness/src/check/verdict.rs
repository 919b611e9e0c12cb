//! What a check says.

use super::kind::Check;
use crate::measurement::{Measurement, Unmeasured};
use crate::reportable::Reportable;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a check says of a measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Which check.
    #[serde(rename = "name")]
    pub check: Check,
    /// Its word.
    pub status: Status,
    /// What was expected.
    pub expected: String,
    /// What was seen.
    pub observed: String,
    /// Whether the expectation was derived rather than given in the manifest.
    pub derived: bool,
    /// What is wrong; `None` if it passed or was not selected.
    pub message: Option<String>,
    /// What to do; `None` if it passed or was not selected.
    pub hint: Option<String>,
}

/// A check's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As expected.
    Passed,
    /// Not as expected.
    Failed,
    /// What it needs was not measured, because something else failed. Never a pass.
    Blocked,
    /// It was planned and not asked for in this run.
    NotSelected,
}

impl Status {
    /// The name as reports write it.
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

    /// The verdict of a check that was planned and not asked for in this run.
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

/// The verdict of a check whose evidence is missing: failed where the failure is the check's own
/// subject, otherwise blocked.
pub(super) fn without_evidence(
    measurement: &Measurement,
    expected: String,
    subject: bool,
) -> Verdict {
    let failure =
        measurement.failure.clone().unwrap_or_else(|| Unmeasured::Incomplete.to_failure());
    let verdict =
        Verdict::passed(expected, "not measured", false).failed(failure.to_string(), failure.hint);
    Verdict { status: if subject { Status::Failed } else { Status::Blocked }, ..verdict }
}

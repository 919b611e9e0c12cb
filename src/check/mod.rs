//! The five checks: pure functions of a measurement and what is expected of it.
//!
//! They know no manifest file, no process and no device; each is tested without any model.

mod expectation;
mod fixed_run;
mod generation;
mod load;
mod memory_range;
mod quantization;
mod synthetic_generation;
mod time_budget;
mod words;

pub use expectation::{Answer, Expectation, Given, generation_requests, perplexity_text};

use modelgate_protocol::{Failure, FailureKind, Measurement, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is checked of a model.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Every tensor that the architecture needs is resident and sound.
    Load,
    /// It was loaded in the time that was planned.
    TimeBudget,
    /// It took the memory that was planned.
    MemoryRange,
    /// It generates sense.
    Generation,
    /// The quantization that was asked for is really there.
    Quantization,
}

impl Check {
    /// Every check, in the order in which they run.
    pub const ALL: [Check; 5] = [
        Check::Load,
        Check::TimeBudget,
        Check::MemoryRange,
        Check::Generation,
        Check::Quantization,
    ];

    /// The name as test names and reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Check::Load => "load",
            Check::TimeBudget => "time_budget",
            Check::MemoryRange => "memory_range",
            Check::Generation => "generation",
            Check::Quantization => "quantization",
        }
    }

    /// What this check says of `measurement`.
    ///
    /// A measurement that does not hold what the check needs makes it fail as blocked, with the
    /// cause; only the check whose own subject failed says failed.
    pub fn verdict(self, measurement: &Measurement, expectation: &Expectation) -> Verdict {
        let verdict = match self {
            Check::Load => load::check(measurement),
            Check::TimeBudget => time_budget::check(measurement, expectation),
            Check::MemoryRange => memory_range::check(measurement, expectation),
            Check::Generation => match &expectation.fixed_run {
                None => generation::check(measurement, expectation),
                Some(asked) => synthetic_generation::check(measurement, asked),
            },
            Check::Quantization => quantization::check(measurement, expectation),
        };
        Verdict { check: self, ..verdict }
    }
}

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
    /// What is wrong; none where it passed or was not selected.
    pub message: Option<String>,
    /// What to do; none where it passed or was not selected.
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
    fn passed(expected: impl Into<String>, observed: impl Into<String>, derived: bool) -> Verdict {
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

    fn failed(self, message: impl Into<String>, hint: impl Into<String>) -> Verdict {
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
fn without_evidence(measurement: &Measurement, expected: String, subject: bool) -> Verdict {
    let missing = Failure::new(
        Stage::Start,
        FailureKind::Protocol,
        "the worker ended its report without what this check needs",
        "a worker must send every event of the protocol; see the schema of the protocol",
    );
    let failure = measurement.failure.as_ref().unwrap_or(&missing);
    let verdict = Verdict::passed(expected, "not measured", false)
        .failed(failure.to_string(), failure.hint.clone());
    Verdict { status: if subject { Status::Failed } else { Status::Blocked }, ..verdict }
}

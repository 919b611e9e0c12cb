//! The outcome of a measurement, and the end of the worker.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The outcome of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was measured.
    Measured,
    /// The files are not available.
    NotAcquired,
    /// The worker reported a failure, or the harness refused to start it.
    Failed,
    /// The worker ended without reporting a failure.
    Crashed,
    /// The worker exceeded its deadline, or made no progress.
    DeadlineExceeded,
    /// A signal ended the run.
    Interrupted,
    /// The measurement has not started yet.
    NotRun,
}

impl Outcome {
    /// Returns the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Measured => "measured",
            Outcome::NotAcquired => "not_acquired",
            Outcome::Failed => "failed",
            Outcome::Crashed => "crashed",
            Outcome::DeadlineExceeded => "deadline_exceeded",
            Outcome::Interrupted => "interrupted",
            Outcome::NotRun => "not_run",
        }
    }
}

/// The end of the worker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerExit {
    /// The exit code. `None` if a signal ended the process.
    pub code: Option<i32>,
    /// The signal that ended the process. `None` if it exited.
    pub signal: Option<i32>,
    /// Whether the harness killed the process.
    pub killed_by_harness: bool,
}

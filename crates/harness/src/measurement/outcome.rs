//! How far a measurement came, and how the worker ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a measurement came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All that was asked was seen.
    Measured,
    /// The files are not available.
    NotAcquired,
    /// The worker said that it cannot go on, or the harness refused to start it.
    Failed,
    /// The worker ended without a word.
    Crashed,
    /// It took too long, in all or without progress.
    DeadlineExceeded,
    /// A signal ended the run.
    Interrupted,
    /// It has not been tried yet.
    NotRun,
}

impl Outcome {
    /// The name as reports write it.
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

/// How the worker's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerExit {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the harness had to kill it.
    pub killed_by_harness: bool,
}

//! The reasons why the measurement of a model is missing or incomplete without a refusal.

use super::measurement::Measurement;
use super::outcome::Outcome;
use crate::reportable::Reportable;
use modelgate_protocol::{FailureKind, Stage};

/// The reason why the measurement of a model is missing or incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmeasured {
    /// The model has not been measured yet.
    #[error("the model has not been measured yet")]
    Waiting,
    /// A signal ended the run before the measurement.
    #[error("the run was interrupted before the model was measured")]
    Interrupted,
    /// The process that measured the model ended before the measurement was complete.
    #[error("the test process that measured the model ended before the measurement was complete")]
    Abandoned,
    /// The worker did not send all events.
    #[error("the worker did not report the values that the check needs")]
    Incomplete,
}

impl Unmeasured {
    /// Returns a measurement without values, with this reason as its failure.
    pub fn measurement(self) -> Measurement {
        let outcome = match self {
            Unmeasured::Abandoned => Outcome::Crashed,
            _ => Outcome::NotRun,
        };
        Measurement { outcome, failure: Some(self.to_failure()), ..Measurement::empty() }
    }
}

impl Reportable for Unmeasured {
    fn stage(&self) -> Stage {
        match self {
            Unmeasured::Waiting | Unmeasured::Interrupted => Stage::Prepare,
            Unmeasured::Abandoned | Unmeasured::Incomplete => Stage::Start,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            Unmeasured::Waiting | Unmeasured::Interrupted => FailureKind::Interrupted,
            Unmeasured::Abandoned => FailureKind::Crashed,
            Unmeasured::Incomplete => FailureKind::Protocol,
        }
    }

    fn hint(&self) -> String {
        let hint = match self {
            Unmeasured::Waiting | Unmeasured::Interrupted => "start the run again",
            Unmeasured::Abandoned => {
                "start the run again; a time limit of the test runner, a signal or a defect ended \
                 the process"
            }
            Unmeasured::Incomplete => "send every event of the protocol; see schemas/event.json",
        };
        hint.to_owned()
    }
}

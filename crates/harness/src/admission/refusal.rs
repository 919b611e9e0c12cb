//! The refusal of a load, with the arithmetic.

use crate::reportable::Reportable;
use modelgate_protocol::FailureKind;

/// Why a model is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is too small, or too large.
    pub kind: FailureKind,
    /// The arithmetic.
    pub message: String,
    /// What could be asked for instead.
    pub hint: String,
}

impl Reportable for Refusal {
    fn kind(&self) -> FailureKind {
        self.kind
    }

    fn hint(&self) -> String {
        self.hint.clone()
    }
}

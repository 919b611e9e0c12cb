//! The refusal of a load, with the arithmetic.

use modelgate_protocol::{Failure, FailureKind, Stage};

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

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::new(Stage::Prepare, refusal.kind, refusal.message, refusal.hint)
    }
}

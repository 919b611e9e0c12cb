//! The refusal of a load, with the arithmetic.

use crate::reportable::Reportable;
use modelgate_protocol::FailureKind;

/// The reason why a model is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The kind of failure for the report.
    pub kind: FailureKind,
    /// The required and the available memory, with the arithmetic.
    pub message: String,
    /// How to make the load fit.
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

#[cfg(test)]
mod tests {
    use super::*;
    use modelgate_protocol::Stage;

    #[test]
    fn a_refusal_keeps_its_kind_message_and_hint() {
        let refusal = Refusal {
            kind: FailureKind::HostMemory,
            message: "a message".into(),
            hint: "a hint".into(),
        };
        let failure = refusal.to_failure();
        assert_eq!((failure.stage, failure.kind), (Stage::Prepare, FailureKind::HostMemory));
        assert_eq!((failure.message.as_str(), failure.hint.as_str()), ("a message", "a hint"));
    }
}

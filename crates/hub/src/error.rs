//! Why the files of a model cannot be fetched.

use modelgate_model::layout::LayoutError;
use modelgate_protocol::FailureKind;
use std::error::Error;

/// Why the files of a model cannot be fetched or used: the class, what and where, and the remedy.
///
/// Neither the texts nor the source contain the token.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HubError {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// What is missing or wrong, and where.
    pub message: String,
    /// How to fix it.
    pub hint: String,
    /// The error of the operating system or of the connection. Never one that quotes an answer of a
    /// server, which may repeat the token.
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl HubError {
    /// Returns an error without a source.
    pub(crate) fn new(
        kind: FailureKind,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> HubError {
        HubError { kind, message: message.into(), hint: hint.into(), source: None }
    }

    /// Returns an error for something that should not happen.
    pub(crate) fn internal(message: impl Into<String>) -> HubError {
        HubError::new(FailureKind::Internal, message, "report this defect of modelgate")
    }

    /// Adds the error that caused this one.
    pub(crate) fn with_source(self, source: impl Error + Send + Sync + 'static) -> HubError {
        HubError { source: Some(Box::new(source)), ..self }
    }
}

impl From<LayoutError> for HubError {
    fn from(error: LayoutError) -> HubError {
        let LayoutError { kind, message, hint, source } = error;
        let hub_error = HubError::new(kind, message, hint);
        match source {
            Some(source) => hub_error.with_source(source),
            None => hub_error,
        }
    }
}

//! The error of a download.

use modelgate_model::layout::LayoutError;
use modelgate_protocol::FailureKind;
use std::error::Error;

/// The reason why the files of a model cannot be downloaded or used.
///
/// The texts and the source do not contain the token.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HubError {
    /// The kind of failure.
    pub kind: FailureKind,
    /// The message: what is missing or wrong, and where.
    pub message: String,
    /// How to fix it.
    pub hint: String,
    /// Whether the hub itself answered with this error. Then the cache must not hide it.
    pub(crate) is_answer_of_hub: bool,
    /// The error of the operating system or of the connection. Errors that quote an answer of a
    /// server are not stored here, because they may contain the token.
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl HubError {
    /// Returns an error without a source.
    pub(crate) fn new(
        kind: FailureKind,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> HubError {
        HubError {
            kind,
            message: message.into(),
            hint: hint.into(),
            is_answer_of_hub: false,
            source: None,
        }
    }

    /// Returns an error for a defect of modelgate.
    pub(crate) fn internal(message: impl Into<String>) -> HubError {
        HubError::new(FailureKind::Internal, message, "report this defect of modelgate")
    }

    /// Sets whether the hub itself answered with this error.
    pub(crate) fn answered_by_hub(self, is_answer_of_hub: bool) -> HubError {
        HubError { is_answer_of_hub, ..self }
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

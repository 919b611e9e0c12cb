//! The error of one attempt of a request, and whether a retry may succeed.

use crate::error::HubError;
use std::time::Duration;

/// The error of one attempt of a request.
#[derive(Debug)]
pub(crate) struct AttemptError {
    pub(crate) error: HubError,
    /// The minimum time to wait before the next attempt. `None` if a retry cannot succeed.
    pub(crate) retry_after: Option<Duration>,
}

impl AttemptError {
    /// Returns an error that a retry cannot fix.
    pub(crate) fn fatal(error: HubError) -> AttemptError {
        AttemptError { error, retry_after: None }
    }

    /// Returns an error after which a retry may succeed, without a minimum wait.
    pub(crate) fn temporary(error: HubError) -> AttemptError {
        AttemptError { error, retry_after: Some(Duration::ZERO) }
    }
}

//! Why one attempt of a request failed, and whether another one may succeed.

use crate::error::HubError;
use std::time::Duration;

/// Why one attempt of a request failed.
#[derive(Debug)]
pub(crate) struct AttemptError {
    pub(crate) error: HubError,
    /// The least time to wait before the next attempt; `None` if another attempt is pointless.
    pub(crate) retry_after: Option<Duration>,
}

impl AttemptError {
    /// Returns an error that will not go away.
    pub(crate) fn fatal(error: HubError) -> AttemptError {
        AttemptError { error, retry_after: None }
    }

    /// Returns an error that another attempt may not meet, which can be made at once.
    pub(crate) fn temporary(error: HubError) -> AttemptError {
        AttemptError { error, retry_after: Some(Duration::ZERO) }
    }
}

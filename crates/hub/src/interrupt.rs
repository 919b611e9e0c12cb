//! The interruption of a download by a signal.

use crate::error::HubError;
use crate::observer::Observer;
use modelgate_protocol::FailureKind;
use std::time::Duration;

/// The interval at which the observer is asked for signals.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Returns the error for a run that `signal` ended.
pub(crate) fn interruption(signal: &str) -> HubError {
    HubError::new(
        FailureKind::Interrupted,
        format!("{signal} ended the run while files were downloaded or verified"),
        "start the run again: downloaded parts are kept",
    )
}

/// Waits until a signal ends the run, and returns the error for it.
async fn interrupted(observer: &dyn Observer) -> HubError {
    loop {
        if let Some(signal) = observer.interrupted() {
            return interruption(&signal);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Returns the result of `work`, or an error if a signal ends the run before.
pub(crate) async fn unless_interrupted<T>(
    observer: &dyn Observer,
    work: impl Future<Output = Result<T, HubError>>,
) -> Result<T, HubError> {
    tokio::select! {
        result = work => result,
        interruption = interrupted(observer) => Err(interruption),
    }
}

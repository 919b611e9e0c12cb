//! The retries of requests, and the waits between them.

use crate::attempt_error::AttemptError;
use crate::error::HubError;
use crate::settings::Settings;
use modelgate_model::units::format_duration;
use std::time::Duration;

/// The maximum wait that a server may request. A longer one ends the request with an error.
const MAX_REQUESTED_WAIT: Duration = Duration::from_secs(120);
/// The wait before the first retry. Each later wait is twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// The maximum wait that was not requested by a server.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The remaining retries while no attempt makes progress.
pub(crate) struct RetryBudget<'a> {
    settings: &'a Settings,
    used: u32,
}

impl<'a> RetryBudget<'a> {
    /// Creates a budget with all retries of the settings.
    pub(crate) fn new(settings: &'a Settings) -> RetryBudget<'a> {
        RetryBudget { settings, used: 0 }
    }

    /// Restores all retries, after an attempt that made progress.
    pub(crate) fn restore(&mut self) {
        self.used = 0;
    }

    /// Waits until the next attempt, at least for the time that `attempt` contains.
    ///
    /// # Errors
    /// The error of the last attempt, if it cannot be retried or no retries remain.
    pub(crate) async fn wait(&mut self, attempt: AttemptError) -> Result<(), HubError> {
        let AttemptError { mut error, retry_after } = attempt;
        let Some(min_wait) = retry_after else {
            return Err(error);
        };
        if min_wait > MAX_REQUESTED_WAIT {
            let max = format_duration(MAX_REQUESTED_WAIT);
            error.message += &format!("; a run waits at most {max}");
            return Err(error);
        }
        if self.used >= self.settings.retries {
            error.message += &format!("; tried {} times", self.used + 1);
            return Err(error);
        }
        let backoff = FIRST_BACKOFF.saturating_mul(1 << self.used.min(16)).min(MAX_BACKOFF);
        self.used += 1;
        // a random wait, so that many hosts do not retry at the same time after an outage
        tokio::time::sleep(min_wait.max(backoff.mul_f64(0.5 + 0.5 * fastrand::f64()))).await;
        Ok(())
    }
}

/// Returns the result of `request`, which is retried while a retry may succeed and retries remain.
pub(crate) async fn with_retries<T, F: Future<Output = Result<T, AttemptError>>>(
    settings: &Settings,
    mut request: impl FnMut() -> F,
) -> Result<T, HubError> {
    let mut budget = RetryBudget::new(settings);
    loop {
        match request().await {
            Ok(answer) => return Ok(answer),
            Err(error) => budget.wait(error).await?,
        }
    }
}

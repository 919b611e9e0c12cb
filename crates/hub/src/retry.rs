//! How often a request is repeated, and how long to wait in between.

use crate::attempt_error::AttemptError;
use crate::error::HubError;
use crate::settings::Settings;
use std::time::Duration;

/// The longest wait that a server may ask for; a longer one ends the request.
const MAX_REQUESTED_WAIT: Duration = Duration::from_secs(120);
/// The wait before the first retry; each further one is twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait that no server has asked for.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The retries that are left while no attempt makes progress.
pub(crate) struct RetryBudget<'a> {
    settings: &'a Settings,
    used: u32,
}

impl<'a> RetryBudget<'a> {
    /// Returns a budget with all retries left.
    pub(crate) fn new(settings: &'a Settings) -> RetryBudget<'a> {
        RetryBudget { settings, used: 0 }
    }

    /// Restores all retries: the last attempt made progress.
    pub(crate) fn restore(&mut self) {
        self.used = 0;
    }

    /// Waits until the next attempt.
    ///
    /// # Errors
    /// The error of the last attempt, if there is to be no other one.
    pub(crate) async fn wait(&mut self, attempt: AttemptError) -> Result<(), HubError> {
        let AttemptError { mut error, retry_after } = attempt;
        let Some(least) = retry_after.filter(|least| *least <= MAX_REQUESTED_WAIT) else {
            return Err(error);
        };
        if self.used >= self.settings.retries {
            error.message += &format!("; tried {} times", self.used + 1);
            return Err(error);
        }
        let backoff = FIRST_BACKOFF.saturating_mul(1 << self.used.min(16)).min(MAX_BACKOFF);
        self.used += 1;
        // many hosts that were cut off at the same time must not return at the same time
        tokio::time::sleep(least.max(backoff.mul_f64(0.5 + 0.5 * fastrand::f64()))).await;
        Ok(())
    }
}

/// Returns the result of `request`, which is repeated while that may help.
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

//! The threads for downloads.

use crate::error::HubError;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};

/// The number of files that are downloaded in parallel, as in the Hugging Face tools.
pub(crate) const PARALLEL_FILES: usize = 8;
/// The maximum time to wait for cancelled downloads.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// A runtime that cancels all downloads when it is dropped, so that they release their locks.
pub(crate) struct Runtime {
    handle: Handle,
    /// `None` only while the value is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    /// Starts the threads.
    ///
    /// # Errors
    /// The operating system cannot start the threads.
    pub(crate) fn start() -> Result<Runtime, HubError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(PARALLEL_FILES)
            .enable_all()
            .build()
            .map_err(|error| {
                HubError::internal(format!("the threads for downloads cannot be started: {error}"))
                    .with_source(error)
            })?;
        Ok(Runtime { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Runs `future` until it completes.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
        }
    }
}

/// Runs blocking `work` in a task. A task that was cancelled during the work ends here, before it uses
/// the runtime again, which may have shut down.
pub(crate) async fn block<T>(work: impl FnOnce() -> T) -> T {
    let result = tokio::task::block_in_place(work);
    tokio::task::yield_now().await;
    result
}

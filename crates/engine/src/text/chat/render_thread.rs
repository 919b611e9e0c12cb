//! Runs a template on a thread with a large stack, and abandons the thread if it takes too much
//! time or memory. minijinja bounds the steps of a template and the depth of its blocks and
//! brackets. It bounds neither chains such as `a.b.b.b`, nor nested values, nor the cost of
//! formatting or comparing a value that contains the same value many times.
//!
//! This module does not depend on templates: it runs any function.

use crate::failures;
use modelgate_protocol::Failure;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// The size of the stack. Only the used part is resident. Without optimization, a level of the
/// template engine takes several times as much stack.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 4 << 30 } else { 512 << 20 };

/// The maximum time. A chat of 100 turns takes milliseconds.
const MAX_TIME: Duration = Duration::from_secs(3);

/// The maximum growth of the process in bytes while the thread runs. The fuel of a template limits
/// its values to a quarter of this size.
const MAX_GROWTH: u64 = 256 << 20;

/// The time between two checks of the time and the memory.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Runs `work` on a new thread. If it takes too much time or memory, returns an error and leaves
/// the thread running until the process ends; a worker ends after an error.
///
/// # Errors
/// `work` fails or exceeds a bound: `failed` converts the message to a failure. The memory of the
/// stack cannot be allocated: the failure reports the host memory, not the template.
pub(super) fn run_bounded<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
    failed: impl Fn(String) -> Failure,
) -> Result<T, Failure> {
    let (sender, outcome) = channel();
    let (begin, before) = (Instant::now(), private_memory());
    Builder::new()
        .name("chat-template".into())
        .stack_size(STACK_BYTES)
        // if the thread was abandoned, the receiver no longer exists
        .spawn(move || drop(sender.send(work())))
        .map_err(|_| failures::host_memory(STACK_BYTES as u64, "the stack of a chat template"))?;
    loop {
        match outcome.recv_timeout(CHECK_INTERVAL) {
            Ok(outcome) => return outcome.map_err(failed),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(failed("the template engine panicked".into()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if begin.elapsed() > MAX_TIME {
            return Err(failed(format!("the template takes longer than {} s", MAX_TIME.as_secs())));
        }
        if private_memory().saturating_sub(before) > MAX_GROWTH {
            return Err(failed(format!(
                "the template takes more than {MAX_GROWTH} bytes of memory"
            )));
        }
    }
}

/// Returns the private memory of the process in bytes. 0 if the system does not report it.
fn private_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

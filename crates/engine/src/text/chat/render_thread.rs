//! Runs a template on a thread with a stack for what a template can nest, and abandons it if it takes too
//! much time or memory. The library bounds steps and the depth of blocks and brackets, but neither chains
//! such as `a.b.b.b`, nor nested values, nor the cost of writing out or comparing a value that holds
//! another many times. Knows no template.

use crate::failures;
use modelgate_protocol::Failure;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// The size of the stack, of which only the used part is resident. Without optimization a level of the
/// template engine takes several times as much.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 4 << 30 } else { 512 << 20 };

/// The longest time. A chat of a hundred turns takes milliseconds.
const MAX_TIME: Duration = Duration::from_secs(3);

/// The most bytes by which the process may grow meanwhile. A template's fuel pays for a quarter of it.
const MAX_GROWTH: u64 = 256 << 20;

/// The time between two checks of both.
const INTERVAL: Duration = Duration::from_millis(5);

/// Runs `work` on such a thread. If it takes too much time or memory the thread goes on: it ends with the
/// process, and a worker ends at an error.
///
/// # Errors
/// `failed` makes the failure of an error of `work`, and of exceeding a bound. There may also be no memory
/// for the stack, for which the template is not to blame.
pub(super) fn run_bounded<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
    failed: impl Fn(String) -> Failure,
) -> Result<T, Failure> {
    let (sender, outcome) = channel();
    let (begin, before) = (Instant::now(), private_memory());
    Builder::new()
        .name("chat-template".into())
        .stack_size(STACK_BYTES)
        // the receiver is gone if the thread was abandoned
        .spawn(move || drop(sender.send(work())))
        .map_err(|_| failures::host_memory(STACK_BYTES as u64, "the stack of a chat template"))?;
    loop {
        match outcome.recv_timeout(INTERVAL) {
            Ok(outcome) => return outcome.map_err(failed),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(failed("the template engine panicked".into()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if begin.elapsed() > MAX_TIME {
            return Err(failed(format!("it takes longer than {} s", MAX_TIME.as_secs())));
        }
        if private_memory().saturating_sub(before) > MAX_GROWTH {
            return Err(failed(format!("it takes more than {MAX_GROWTH} bytes of memory")));
        }
    }
}

/// Returns the bytes of the process's private memory; 0 if the system does not report them.
fn private_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

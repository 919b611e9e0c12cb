//! A thread for a template, with a stack for what a template can nest, that is left behind where it takes
//! too long or too much. The library bounds steps, and how deep blocks and brackets go; not chains such as
//! `a.b.b.b`, nor values within values, nor what it takes to write out or compare a value that holds
//! another many times. Knows no template.

use crate::fail;
use modelgate_protocol::Failure;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// The stack. Only what is used of it is ever memory.
const STACK: usize = 512 << 20;

/// The longest time. A chat of a hundred turns takes milliseconds.
const LONGEST: Duration = Duration::from_secs(3);

/// Most memory by which the process may grow meanwhile, in bytes. Fuel for a template pays for a quarter
/// of it.
const MOST_MEMORY: u64 = 256 << 20;

/// How often both are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Does `work` on such a thread. Where the error is that it takes too long or too much the thread goes on:
/// nothing ends it but the end of the process, which is what a worker does with an error.
///
/// # Errors
/// What `failed` makes of those of `work`, and of why it was left behind; or there is no memory for the
/// stack, which is no fault of the template's.
pub(super) fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
    failed: impl Fn(String) -> Failure,
) -> Result<T, Failure> {
    let (sender, outcome) = channel();
    let (begin, before) = (Instant::now(), private_memory());
    Builder::new()
        .name("chat-template".into())
        .stack_size(STACK)
        // where nobody waits any more there is nobody to tell
        .spawn(move || drop(sender.send(work())))
        .map_err(|_| fail::host_memory(STACK as u64, "the stack of a chat template"))?;
    loop {
        match outcome.recv_timeout(LOOK) {
            Ok(outcome) => return outcome.map_err(failed),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(failed("the template engine panicked".into()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if begin.elapsed() > LONGEST {
            return Err(failed(format!("it takes longer than {} s", LONGEST.as_secs())));
        }
        if private_memory().saturating_sub(before) > MOST_MEMORY {
            return Err(failed(format!("it takes more than {MOST_MEMORY} bytes of memory")));
        }
    }
}

/// Bytes of memory that the process has for itself; 0 where the system does not tell.
fn private_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

//! SIGINT, SIGTERM and SIGHUP: the first one asks the run to end, the second one ends it
//! immediately.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The signals that arrived: whether one asked the run to end, and which one.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Installs handlers for the signals of this process.
    ///
    /// # Errors
    /// The operating system refuses a handler.
    pub fn install() -> io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        let ignored = ignored_signals();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // a parent that started this process with a signal ignored (nohup, a background job of
            // a shell) wants it ignored
            if ignored & (1 << (signal - 1)) != 0 {
                continue;
            }
            // the order matters: the first signal sets the flag that the second one checks
            flag::register_conditional_shutdown(
                signal,
                exit_code(signal),
                Arc::clone(&interrupt.requested),
            )?;
            flag::register_usize(signal, Arc::clone(&interrupt.signal), signal as usize)?;
            flag::register(signal, Arc::clone(&interrupt.requested))?;
        }
        Ok(interrupt)
    }

    /// Behaves as if `signal` had arrived.
    #[cfg(test)]
    pub(crate) fn raise(&self, signal: i32) {
        self.signal.store(signal as usize, Ordering::Relaxed);
        self.requested.store(true, Ordering::Relaxed);
    }

    /// Creates a state in which `signal` has arrived.
    #[cfg(test)]
    pub(crate) fn after(signal: i32) -> Interrupt {
        let interrupt = Interrupt::default();
        interrupt.raise(signal);
        interrupt
    }

    /// Returns the signal that arrived. `None` if none did.
    pub fn signal(&self) -> Option<i32> {
        if !self.requested.load(Ordering::Relaxed) {
            return None;
        }
        i32::try_from(self.signal.load(Ordering::Relaxed)).ok()
    }
}

/// Returns the signals that this process ignores, as a bit mask: bit n - 1 for signal n. 0 if the
/// operating system does not report them.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Returns the exit code for a process that a signal ended, in the convention of shells.
pub fn exit_code(signal: i32) -> i32 {
    128 + signal
}

/// Returns the name of a signal, such as `SIGINT`, or `signal n` if the name is unknown.
pub fn name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal)
        .map_or_else(|| format!("signal {signal}"), str::to_owned)
}

//! SIGINT, SIGTERM and SIGHUP: the first asks the run to end, a second one ends it at once.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether a signal has asked the run to end, and which.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Takes over the signals of this process.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn install() -> io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        let ignored = ignored();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // who started us with a signal ignored (nohup, a shell's background job) means it
            if ignored & (1 << (signal - 1)) != 0 {
                continue;
            }
            // in this order: the first signal sets the flag that the second one finds set
            flag::register_conditional_shutdown(
                signal,
                exit_code(signal),
                Arc::clone(&interrupt.asked),
            )?;
            flag::register_usize(signal, Arc::clone(&interrupt.signal), signal as usize)?;
            flag::register(signal, Arc::clone(&interrupt.asked))?;
        }
        Ok(interrupt)
    }

    /// As if `signal` had come.
    #[cfg(test)]
    pub(crate) fn ask(&self, signal: i32) {
        self.signal.store(signal as usize, Ordering::Relaxed);
        self.asked.store(true, Ordering::Relaxed);
    }

    /// One to which `signal` has come already.
    #[cfg(test)]
    pub(crate) fn after(signal: i32) -> Interrupt {
        let interrupt = Interrupt::default();
        interrupt.ask(signal);
        interrupt
    }

    /// The signal that came, if one did.
    pub fn signal(&self) -> Option<i32> {
        if !self.asked.load(Ordering::Relaxed) {
            return None;
        }
        i32::try_from(self.signal.load(Ordering::Relaxed)).ok()
    }
}

/// The signals that this process ignores, as a mask; 0 where the system does not say.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// The exit code of a process that a signal ended, as shells write it.
pub fn exit_code(signal: i32) -> i32 {
    128 + signal
}

/// The signal's name, where it has a common one.
pub fn name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal)
        .map_or_else(|| format!("signal {signal}"), str::to_owned)
}

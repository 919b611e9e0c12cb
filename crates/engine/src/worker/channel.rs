//! The channel to the harness: one event a line, whole lines only. Knows no event by name.

use super::exit_codes::ABANDONED;
use modelgate_protocol::Event;
use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::sync::{Mutex, PoisonError};

/// Writes events to the harness.
pub(super) struct Channel(Mutex<File>);

impl Channel {
    /// Opens the channel on the file descriptor whose number `text` is; returns `None` if it is not the
    /// number of an open descriptor other than the three standard ones.
    pub(super) fn open(text: &str) -> Option<Channel> {
        let number: i32 = text.trim().parse().ok().filter(|number| *number > 2)?;
        // SAFETY: the harness opened this descriptor for this process alone; nothing else in it knows
        // the number. Whether it is open is checked before anything is done with it.
        let file = unsafe { File::from_raw_fd(number) };
        if rustix::io::fcntl_getfd(&file).is_err() {
            // it is not open, so it must not be closed either
            let _ = file.into_raw_fd();
            return None;
        }
        Some(Channel(Mutex::new(file)))
    }

    /// Writes one event. If that fails the harness is gone, and the process ends.
    pub(super) fn send(&self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if file.write_all(&line).is_err() {
            signal_hook::low_level::exit(ABANDONED);
        }
    }
}

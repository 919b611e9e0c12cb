//! The channel to the harness: one event a line, whole lines only. Knows no event by name.

use modelgate_protocol::Event;
use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::sync::{Mutex, PoisonError};

/// Exit code where nobody listens any more.
pub(crate) const ABANDONED: i32 = 3;

/// Where events are written to.
pub(crate) struct Channel(Mutex<File>);

impl Channel {
    /// The channel on the file descriptor whose number `text` is; none where it is no number of an
    /// open descriptor other than the three standard ones.
    pub(crate) fn open(text: &str) -> Option<Channel> {
        let number: i32 = text.trim().parse().ok().filter(|number| *number > 2)?;
        // SAFETY: the harness opened this descriptor for us alone; nothing else in this process
        // knows its number. Whether it is open is asked before anything is done with it.
        let file = unsafe { File::from_raw_fd(number) };
        if rustix::io::fcntl_getfd(&file).is_err() {
            // It is not open, so it must not be closed either.
            let _ = file.into_raw_fd();
            return None;
        }
        Some(Channel(Mutex::new(file)))
    }

    /// Writes one event. Where that fails the harness is gone, and the process ends.
    pub(crate) fn send(&self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if file.write_all(&line).is_err() {
            signal_hook::low_level::exit(ABANDONED);
        }
    }
}

//! The channel to the harness: one event per line, and only complete lines. Does not depend on the
//! kinds of events.

use super::exit_codes::{ABANDONED, UNSENT};
use modelgate_protocol::Event;
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::sync::{Mutex, PoisonError};

/// A writer of events to the harness.
pub(super) struct Channel(Mutex<File>);

impl Channel {
    /// Opens the channel on the file descriptor with the number `text`. `None` if `text` is not the
    /// number of an open descriptor, or is the number of one of the three standard descriptors.
    pub(super) fn open(text: &str) -> Option<Channel> {
        let number: i32 = text.trim().parse().ok().filter(|number| *number > 2)?;
        // SAFETY: the harness opened this descriptor only for this process, and no other code of
        // the process uses its number. The next statement checks that it is open before any other
        // use.
        let file = unsafe { File::from_raw_fd(number) };
        if rustix::io::fcntl_getfd(&file).is_err() {
            // a descriptor that is not open must not be closed
            let _ = file.into_raw_fd();
            return None;
        }
        Some(Channel(Mutex::new(file)))
    }

    /// Writes one event. If the write fails, the harness has ended, and this process ends too. It
    /// also ends if the event has no representation in JSON: without the event, the results would
    /// be incomplete.
    pub(super) fn send(&self, event: &Event) {
        let line = encode(event).unwrap_or_else(|error| {
            eprintln!("modelgate-worker: an event cannot be sent: {error}");
            signal_hook::low_level::exit(UNSENT)
        });
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if file.write_all(&line).is_err() {
            signal_hook::low_level::exit(ABANDONED);
        }
    }
}

/// Returns an event as one line of JSON.
fn encode(event: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_event_without_a_representation_in_json_is_an_error() {
        assert_eq!(encode(&Event::Done).expect("JSON"), b"{\"event\":\"done\"}\n");
        // keys of JSON objects are texts
        assert!(encode(&BTreeMap::from([(vec![1], 2)])).is_err());
    }
}

//! The event channel of the worker: parses bytes into events, each with its time of arrival.

use modelgate_protocol::Event;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

/// The maximum length of an event in bytes. An event with all tokens of a long answer is far
/// shorter.
const MAX_LINE_BYTES: u64 = 16 << 20;
/// The maximum number of unprocessed events, which bounds the memory of the harness. If it is
/// reached, the worker has to wait.
const MAX_UNPROCESSED: usize = 1024;

/// One line of the channel.
pub(super) enum Line {
    /// An event with its time of arrival.
    Event(Instant, Box<Event>),
    /// A line that is not an event, as a message for the report. No further line follows.
    Malformed(String),
    /// The channel cannot be read. No further line follows.
    Unreadable(io::Error),
}

/// Reads lines from `source` on a separate thread. The receiver is closed at the end of `source`.
pub(super) fn read(source: impl Read + Send + 'static) -> Receiver<Line> {
    let (sender, receiver) = sync_channel(MAX_UNPROCESSED);
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        loop {
            let mut line = Vec::new();
            let read = source.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
            let at = Instant::now();
            let message = match read {
                Ok(0) => return,
                Err(error) => Line::Unreadable(error),
                // a dying worker leaves an incomplete line; its exit status explains more
                Ok(read) if line.last() != Some(&b'\n') && (read as u64) < MAX_LINE_BYTES => return,
                Ok(_) if line.iter().all(u8::is_ascii_whitespace) => continue,
                Ok(_) => parse(&line, at),
            };
            let last = matches!(message, Line::Malformed(_) | Line::Unreadable(_));
            if sender.send(message).is_err() || last {
                return;
            }
        }
    });
    receiver
}

/// Parses a line that arrived at `at`. The message for an invalid line has its first 200 bytes.
fn parse(line: &[u8], at: Instant) -> Line {
    match serde_json::from_slice(line) {
        Ok(event) => Line::Event(at, Box::new(event)),
        Err(error) => {
            let text = String::from_utf8_lossy(&line[..line.len().min(200)]);
            Line::Malformed(format!(
                "event channel of the worker: a line is not a valid event ({error}): {:?}",
                text.trim_end()
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that returns a text, and then an error.
    struct Faulty(io::Cursor<&'static str>);

    impl Read for Faulty {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::from_raw_os_error(5)),
                read => Ok(read),
            }
        }
    }

    #[test]
    fn a_read_error_is_not_the_end_of_the_channel() {
        let receiver = read(Faulty(io::Cursor::new("{\"event\":\"done\"}\n{\"event\"")));
        assert!(matches!(receiver.recv(), Ok(Line::Event(_, event)) if *event == Event::Done));
        match receiver.recv() {
            Ok(Line::Unreadable(error)) => assert_eq!(error.raw_os_error(), Some(5)),
            _ => panic!("expected the error"),
        }
        assert!(receiver.recv().is_err(), "no further line");
    }

    #[test]
    fn an_incomplete_last_line_is_ignored() {
        let receiver = read(io::Cursor::new("\n{\"event\":\"done\"}\n{\"event\""));
        assert!(matches!(receiver.recv(), Ok(Line::Event(..))));
        assert!(receiver.recv().is_err(), "the end of the channel");
    }
}

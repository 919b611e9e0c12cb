//! The worker's event channel: bytes to events, each stamped as it arrives.

use modelgate_protocol::Event;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

/// The longest line that is taken for an event; one with every token of a long answer is far below.
const MAX_LINE_BYTES: u64 = 16 << 20;
/// Events that may wait before the worker has to: bounds the harness's memory.
const MAX_WAITING: usize = 1024;

/// One line of the channel.
pub(super) enum Line {
    /// An event and when it arrived.
    Event(Instant, Box<Event>),
    /// Something else: what was expected and found. Nothing follows it.
    Malformed(String),
}

/// Reads lines from `source` on a thread of its own; the channel closes at the source's end.
pub(super) fn read(source: impl Read + Send + 'static) -> Receiver<Line> {
    let (sender, receiver) = sync_channel(MAX_WAITING);
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        loop {
            let mut line = Vec::new();
            let read = source.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
            let at = Instant::now();
            let message = match read {
                Ok(0) | Err(_) => return,
                // half a line is what a dying worker leaves; how it ended says more
                Ok(read) if line.last() != Some(&b'\n') && (read as u64) < MAX_LINE_BYTES => return,
                Ok(_) if line.iter().all(u8::is_ascii_whitespace) => continue,
                Ok(_) => parse(&line, at),
            };
            let last = matches!(message, Line::Malformed(_));
            if sender.send(message).is_err() || last {
                return;
            }
        }
    });
    receiver
}

fn parse(line: &[u8], at: Instant) -> Line {
    match serde_json::from_slice(line) {
        Ok(event) => Line::Event(at, Box::new(event)),
        Err(error) => {
            let text = String::from_utf8_lossy(&line[..line.len().min(200)]);
            Line::Malformed(format!(
                "the worker's event channel carries a line that is no event ({error}): {}",
                text.trim_end()
            ))
        }
    }
}

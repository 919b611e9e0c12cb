//! What can be wrong with an answer, and sending one with it or without.

use super::answer::{Answer, Request};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes that are written at once.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// Something that goes wrong with some requests.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Part of the target of the requests that it fits.
    pub target: String,
    /// How often it acts; then it is used up.
    pub times: usize,
    /// What it does.
    pub action: Action,
}

impl Fault {
    /// A fault of every request whose target has `target` in it.
    pub fn of(target: &str, action: Action) -> Fault {
        Fault { target: target.to_owned(), times: usize::MAX, action }
    }

    /// At most so often.
    pub fn times(self, times: usize) -> Fault {
        Fault { times, ..self }
    }
}

/// What a fault does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Another status, with headers and a body.
    Status(u16, Vec<(String, String)>, String),
    /// The connection ends where the content's byte of this offset would come.
    CutAt(u64),
    /// Nothing more comes from the content's byte of this offset on, and the connection stays.
    StallAt(u64),
    /// So many bytes a second.
    Trickle(u64),
    /// The content's byte of this offset has another value.
    FlipAt(u64),
    /// A page whose length is not said.
    Unsized(String),
    /// All of the content, whatever range was asked for.
    IgnoreRange,
    /// A range that is not the one that was asked for.
    OtherRange,
    /// The connection ends before a byte of an answer.
    Hang,
    /// What is no HTTP.
    Garbage,
}

/// The fault that `request` meets.
pub(super) fn acting(faults: &mut [Fault], request: &Request) -> Option<Action> {
    let is_met = |fault: &&mut Fault| fault.times > 0 && request.target.contains(&fault.target);
    let fault = faults.iter_mut().find(is_met)?;
    fault.times -= 1;
    Some(fault.action.clone())
}

/// Sends `answer`, with what `action` does to it. `count` is told the bytes of the body.
pub(super) fn send(
    stream: &mut TcpStream,
    request: &Request,
    mut answer: Answer,
    action: Option<&Action>,
    count: &dyn Fn(u64),
    ended: &AtomicBool,
) -> std::io::Result<()> {
    match action {
        Some(Action::Hang) => return Ok(()),
        Some(Action::Garbage) => {
            return stream.write_all(b"\x15\x03\x01\x00\x02\x02\x0a no HTTP\r\n\r\n");
        }
        Some(Action::Unsized(page)) => {
            let head = "HTTP/1.1 200 Said\r\nConnection: close\r\n\r\n";
            return stream.write_all(format!("{head}{page}").as_bytes());
        }
        Some(Action::Status(status, headers, body)) => {
            answer = Answer::new(*status, &[], body);
            answer.headers.clone_from(headers);
        }
        Some(Action::IgnoreRange) if answer.status == 206 => {
            answer.status = 200;
            answer.headers.retain(|(name, _)| name != "Content-Range");
            answer.range = 0..answer.body.len() as u64;
        }
        Some(Action::OtherRange) if answer.status == 206 => {
            answer.headers.retain(|(name, _)| name != "Content-Range");
            let all = answer.body.len();
            answer.headers.push(("Content-Range".into(), format!("bytes 0-0/{all}")));
        }
        _ => {}
    }
    let length = answer.range.end - answer.range.start;
    let mut head = format!("HTTP/1.1 {} Said\r\nContent-Length: {length}\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    // only what carries content is cut and bent
    let bent = action.filter(|_| matches!(answer.status, 200 | 206));
    body(stream, &answer, bent, count, ended)
}

fn body(
    stream: &mut TcpStream,
    answer: &Answer,
    action: Option<&Action>,
    count: &dyn Fn(u64),
    ended: &AtomicBool,
) -> std::io::Result<()> {
    let end = match action {
        Some(Action::CutAt(at) | Action::StallAt(at)) => {
            answer.range.end.min(*at.max(&answer.range.start))
        }
        _ => answer.range.end,
    };
    let at_once = match action {
        Some(Action::Trickle(rate)) => (*rate / 10).max(1),
        _ => WRITTEN_AT_ONCE as u64,
    };
    let mut from = answer.range.start;
    while from < end && !ended.load(Ordering::Relaxed) {
        let to = end.min(from + at_once);
        let mut part = answer.body[from as usize..to as usize].to_vec();
        if let Some(Action::FlipAt(at)) = action
            && (from..to).contains(at)
        {
            part[(at - from) as usize] ^= 1;
        }
        stream.write_all(&part)?;
        count(to - from);
        from = to;
        if matches!(action, Some(Action::Trickle(_))) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    while matches!(action, Some(Action::StallAt(_))) && !ended.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

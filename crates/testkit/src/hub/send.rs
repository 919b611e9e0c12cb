//! Sends responses, with or without faults.

use super::answer::Answer;
use super::fault::Action;
use super::request::Request;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The number of bytes that are written to the connection at once.
const BYTES_PER_WRITE: usize = 64 << 10;

/// Sends `answer`, changed by the fault `action`. Calls `count` with the number of body bytes after
/// each write. Ends early when `ended` is set.
pub(super) fn send(
    stream: &mut TcpStream,
    request: &Request,
    mut answer: Answer,
    action: Option<&Action>,
    count: &dyn Fn(u64),
    ended: &AtomicBool,
) -> std::io::Result<()> {
    match action {
        Some(Action::Close) => return Ok(()),
        Some(Action::Garbage) => {
            return stream.write_all(b"\x15\x03\x01\x00\x02\x02\x0a not HTTP\r\n\r\n");
        }
        Some(Action::Unsized(page)) => {
            let head = "HTTP/1.1 200 Test\r\nConnection: close\r\n\r\n";
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
    let mut head = format!("HTTP/1.1 {} Test\r\nContent-Length: {length}\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    // faults of the body apply to content only
    let action = action.filter(|_| matches!(answer.status, 200 | 206));
    body(stream, &answer, action, count, ended)
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
    let bytes_per_write = match action {
        Some(Action::Trickle(rate)) => (*rate / 10).max(1),
        _ => BYTES_PER_WRITE as u64,
    };
    if let Some(Action::Hold(released)) = action {
        while !released.load(Ordering::Relaxed) && !ended.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let mut from = answer.range.start;
    while from < end && !ended.load(Ordering::Relaxed) {
        let to = end.min(from + bytes_per_write);
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

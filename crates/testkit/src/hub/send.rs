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
        Some(action) => change(&mut answer, action),
        None => {}
    }
    let is_chunked = matches!(action, Some(Action::Chunked)) && answer.status == 200;
    let length = if is_chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {}", answer.range.end - answer.range.start)
    };
    let mut head = format!("HTTP/1.1 {} Test\r\n{length}\r\n", answer.status);
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

/// Changes the status, the headers and the range of `answer` as `action` describes.
fn change(answer: &mut Answer, action: &Action) {
    let all = answer.body.len() as u64;
    let is_range = answer.status == 206;
    let range = answer.range.clone();
    let mut set_range = |range: &str| {
        answer.headers.retain(|(name, _)| name != "Content-Range");
        answer.headers.push(("Content-Range".into(), format!("bytes {range}/{all}")));
    };
    match action {
        Action::IgnoreRange if is_range => {
            answer.headers.retain(|(name, _)| name != "Content-Range");
            (answer.status, answer.range) = (200, 0..all);
        }
        Action::Chunked if matches!(answer.status, 200 | 206) => {
            answer.headers.clear();
            (answer.status, answer.range) = (200, 0..all);
        }
        Action::StartAtZero if is_range => {
            set_range(&format!("0-{}", all - 1));
            answer.range = 0..all;
        }
        Action::RefuseRange if is_range => {
            set_range("*");
            (answer.status, answer.range) = (416, 0..0);
        }
        Action::OtherRange if is_range => {
            set_range(&format!("{}-{}", range.start + 1, range.end));
        }
        Action::ShortRange(bytes) if is_range => {
            let end = range.end.min(range.start + bytes);
            set_range(&format!("{}-{}", range.start, end - 1));
            answer.range = range.start..end;
        }
        Action::BareHeaders => answer.headers.retain(|(name, _)| name == "Location"),
        Action::LinkToOtherHost => {
            for (_, value) in answer.headers.iter_mut().filter(|(name, _)| name == "Link") {
                let path = value.find("/api/").expect("a link of the hub");
                value.replace_range(..path, "<https://other.invalid");
            }
        }
        _ => {}
    }
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
    let is_chunked = matches!(action, Some(Action::Chunked));
    let mut from = answer.range.start;
    while from < end && !ended.load(Ordering::Relaxed) {
        let to = end.min(from + bytes_per_write);
        let mut part = answer.body[from as usize..to as usize].to_vec();
        if let Some(Action::FlipAt(at)) = action
            && (from..to).contains(at)
        {
            part[(at - from) as usize] ^= 1;
        }
        if is_chunked {
            part = [format!("{:x}\r\n", part.len()).as_bytes(), &part, b"\r\n"].concat();
        }
        stream.write_all(&part)?;
        count(to - from);
        from = to;
        if matches!(action, Some(Action::Trickle(_))) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    if is_chunked && from == end {
        stream.write_all(b"0\r\n\r\n")?;
    }
    while matches!(action, Some(Action::StallAt(_))) && !ended.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

//! The answer to a request for a file: which bytes of the file it contains.
//!
//! The listed size and hash verify the file. Headers are therefore required only where the bytes
//! could otherwise not be placed in the file.

use crate::attempt_error::AttemptError;
use crate::connection_error::connection_error;
use crate::request_context::RequestContext;
use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Response, StatusCode};
use std::ops::Range;

/// An answer to a request for a file.
pub(crate) enum FileAnswer {
    /// The requested range, or the complete file.
    Stream(FileStream),
    /// The server does not support the requested range.
    RangeRefused,
}

/// A response with bytes of a file, which are read as they arrive.
pub(crate) struct FileStream {
    response: Response,
    /// The offset of the first byte in the file: the start of the requested range, or 0.
    pub(crate) start: u64,
    /// The offset in the file at which the answer must not end earlier.
    pub(crate) min_end: u64,
    /// Whether neither the status nor a header shows that the bytes are those of the file.
    pub(crate) is_unproven: bool,
}

impl FileStream {
    /// Returns the answer in `response`, whose status is that of a success, to a request for the
    /// bytes `range` of a file of `bytes` bytes.
    ///
    /// # Errors
    /// The headers show that the answer is not the file.
    pub(crate) fn of(
        response: Response,
        range: Option<Range<u64>>,
        bytes: u64,
    ) -> Result<FileAnswer, String> {
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        let part = is_part.then(|| part(response.headers(), range.clone(), bytes));
        let length = response.content_length();
        let stream = |start, min_end, is_unproven| {
            Ok(FileAnswer::Stream(FileStream { response, start, min_end, is_unproven }))
        };
        let other_size = |found| format!("{found} bytes, expected {bytes} as listed");
        let part = match (part, length) {
            (None, Some(length)) if length != bytes => return Err(other_size(length)),
            (None, length) => return stream(0, bytes, length.is_none()),
            (Some(None), _) if range.is_some() => return Ok(FileAnswer::RangeRefused),
            (Some(None), _) => return Err("an unreadable range instead of the file".to_owned()),
            (Some(Some(part)), _) => part,
        };
        match (part.file_bytes, range) {
            (Some(found), _) if found != bytes => Err(other_size(found)),
            (_, Some(range)) if part.start == range.start => stream(part.start, part.end, false),
            _ if part.start == 0 => stream(0, part.end, false),
            (_, Some(_)) => Ok(FileAnswer::RangeRefused),
            (_, None) => Err(format!("the answer begins at byte {}, expected 0", part.start)),
        }
    }

    /// Returns the next bytes. `None` at the end.
    pub(crate) async fn next(
        &mut self,
        context: &RequestContext<'_>,
    ) -> Result<Option<Bytes>, AttemptError> {
        self.response.chunk().await.map_err(|error| connection_error(context, error))
    }
}

/// The part of a file in an answer.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    start: u64,
    end: u64,
    /// The size of the file. `None` if the server does not know it.
    file_bytes: Option<u64>,
}

/// Returns the part that an answer with status 206 contains. Without the header `Content-Range` it
/// is the requested one. `None` if the header is invalid or the answer has several parts.
fn part(headers: &HeaderMap, range: Option<Range<u64>>, bytes: u64) -> Option<Part> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    if text(&CONTENT_TYPE).is_some_and(|kind| kind.starts_with("multipart/")) {
        return None;
    }
    match text(&CONTENT_RANGE) {
        Some(header) => content_range(header),
        None => {
            let Range { start, end } = range.unwrap_or(0..bytes);
            Some(Part { start, end, file_bytes: None })
        }
    }
}

/// Parses the header `Content-Range` (RFC 9110): `bytes FIRST-LAST/SIZE`, where the size may be `*`.
fn content_range(header: &str) -> Option<Part> {
    let (unit, rest) = header.trim().split_once(' ')?;
    let (range, size) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (start, end) = (number(first)?, number(last)?.checked_add(1)?);
    let file_bytes = if size.trim() == "*" { None } else { Some(number(size)?) };
    let is_valid = unit.eq_ignore_ascii_case("bytes") && start < end;
    is_valid.then_some(Part { start, end, file_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_gives_the_part_and_the_size_of_the_file() {
        let part = |start, end, file_bytes| Some(Part { start, end, file_bytes });
        for (header, expected) in [
            ("bytes 0-99/200", part(0, 100, Some(200))),
            ("bytes 100-199/200", part(100, 200, Some(200))),
            ("Bytes  100-199 / 200", part(100, 200, Some(200))),
            ("bytes 100-199/*", part(100, 200, None)),
            ("bytes */200", None),
            ("bytes 100-99/200", None),
            ("bytes 0-18446744073709551615/*", None),
            ("items 0-1/2", None),
            ("", None),
        ] {
            assert_eq!(content_range(header), expected, "{header}");
        }
    }

    #[test]
    fn an_answer_with_several_parts_is_not_placed() {
        let mut headers = HeaderMap::new();
        let requested = Part { start: 5, end: 9, file_bytes: None };
        assert_eq!(part(&headers, Some(5..9), 20), Some(requested));
        let kind = "multipart/byteranges; boundary=x".parse().expect("a header");
        headers.insert(CONTENT_TYPE, kind);
        assert_eq!(part(&headers, Some(5..9), 20), None);
    }
}

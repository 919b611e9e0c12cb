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

/// A response with bytes of a file, which are read as they arrive.
pub(crate) struct FileStream {
    response: Response,
    /// The offset of the first byte in the file: the start of the requested range, or 0.
    pub(crate) start: u64,
    /// The offset in the file before which the answer must not end.
    pub(crate) min_end: u64,
    /// Whether neither the status nor a header shows that the bytes are those of the file.
    pub(crate) is_unproven: bool,
}

impl FileStream {
    /// Returns the bytes in `response`, whose status is that of a success, to a request for the bytes
    /// `range` of a file of `bytes` bytes. `None` if the file must be requested without a range.
    ///
    /// # Errors
    /// The headers show that the answer is not the file.
    pub(crate) fn of(
        response: Response,
        range: Option<Range<u64>>,
        bytes: u64,
    ) -> Result<Option<FileStream>, String> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return match response.content_length() {
                Some(length) if length != bytes => Err(other_size(length, bytes)),
                length => {
                    let is_unproven = length.is_none();
                    Ok(Some(FileStream { response, start: 0, min_end: bytes, is_unproven }))
                }
            };
        }
        let part = part(response.headers(), range.clone(), bytes);
        let placed = placed(part, range, bytes)?;
        Ok(placed.map(|Range { start, end }| FileStream {
            response,
            start,
            min_end: end,
            is_unproven: false,
        }))
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

/// Returns the bytes of the file in an answer with status 206 to a request for `range`. `None` if the
/// answer is of no use, and the file must be requested without a range.
fn placed(
    part: Option<Part>,
    range: Option<Range<u64>>,
    bytes: u64,
) -> Result<Option<Range<u64>>, String> {
    match (part, range) {
        (Some(Part { file_bytes: Some(found), .. }), _) if found != bytes => {
            Err(other_size(found, bytes))
        }
        (Some(part), Some(range)) if part.start == range.start => Ok(Some(part.start..part.end)),
        // the complete file instead of a part
        (Some(part), _) if part.start == 0 && part.end >= bytes => Ok(Some(0..bytes)),
        // a shorter part from the start would be sent again for the next range
        (_, Some(_)) => Ok(None),
        (_, None) => Err("a part of the file, expected the complete file".to_owned()),
    }
}

fn other_size(found: u64, bytes: u64) -> String {
    format!("{found} bytes, expected {bytes} as listed")
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
    fn a_part_is_placed_only_where_the_download_can_continue() {
        let part = |start, end, file_bytes| Some(Part { start, end, file_bytes });
        for (found, range, expected) in [
            (part(100, 200, Some(200)), Some(100..200), Ok(Some(100..200))),
            // a shorter part
            (part(100, 150, None), Some(100..200), Ok(Some(100..150))),
            (part(0, 50, None), Some(0..200), Ok(Some(0..50))),
            // the complete file
            (part(0, 200, Some(200)), Some(100..200), Ok(Some(0..200))),
            (part(0, 200, None), None, Ok(Some(0..200))),
            // another part, a part from the start, and an unreadable header
            (part(101, 200, Some(200)), Some(100..200), Ok(None)),
            (part(0, 50, Some(200)), Some(100..200), Ok(None)),
            (None, Some(100..200), Ok(None)),
            // nothing better can be requested
            (part(0, 50, Some(200)), None, Err("a part of the file")),
            (None, None, Err("a part of the file")),
            (part(100, 200, Some(300)), Some(100..200), Err("300 bytes, expected 200 as listed")),
        ] {
            match (placed(found, range, 200), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(expected)) => assert!(error.starts_with(expected), "{error}"),
                (found, expected) => panic!("{found:?}, expected {expected:?}"),
            }
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

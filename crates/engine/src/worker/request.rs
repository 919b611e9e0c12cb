//! Reads the request from standard input.

use crate::failures;
use modelgate_model::units::format_bytes;
use modelgate_protocol::{Failure, FailureKind, PROTOCOL_VERSION, Request};
use std::io::BufRead;

/// The maximum length of a request in bytes.
const MAX_REQUEST_BYTES: u64 = 64 << 20;

/// Reads the request, which is one line on standard input.
///
/// # Errors
/// The request cannot be read, is too long, is not valid, or has another protocol version.
pub(super) fn read_request() -> Result<Request, Failure> {
    parse(&read_line(std::io::stdin().lock(), MAX_REQUEST_BYTES)?)
}

/// Reads one line of at most `max_bytes` bytes.
fn read_line(input: impl BufRead, max_bytes: u64) -> Result<Vec<u8>, Failure> {
    let mut line = Vec::new();
    let read = input.take(max_bytes.saturating_add(1)).read_until(b'\n', &mut line);
    read.map_err(|error| {
        let message = format!("request: standard input cannot be read: {error}");
        failures::start(FailureKind::Io, message, "start the run again")
    })?;
    if line.len() as u64 > max_bytes {
        return Err(failures::start(
            FailureKind::Protocol,
            format!("request: expected at most {}, found more", format_bytes(max_bytes)),
            "shorten the text, the prompts or the list of files of the model",
        ));
    }
    Ok(line)
}

/// Parses a request.
fn parse(line: &[u8]) -> Result<Request, Failure> {
    #[derive(serde::Deserialize)]
    struct Version {
        protocol: u32,
    }
    let malformed = |error: serde_json::Error| {
        failures::start(
            FailureKind::Protocol,
            format!("request: expected one line of JSON in the format of the protocol: {error}"),
            "build the harness and the worker from the same sources",
        )
    };
    // the version first: a request of another version may have another format
    let version: Version = serde_json::from_slice(line).map_err(malformed)?;
    if version.protocol != PROTOCOL_VERSION {
        return Err(failures::start(
            FailureKind::Protocol,
            format!(
                "request: expected protocol version {PROTOCOL_VERSION}, found {}",
                version.protocol
            ),
            "build the harness and the worker from the same sources",
        ));
    }
    serde_json::from_slice(line).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Cursor, Read};

    #[test]
    fn a_request_that_is_too_long_is_not_reported_as_malformed() {
        assert_eq!(read_line(Cursor::new("1234\nrest"), 5).expect("a line"), b"1234\n");
        assert_eq!(read_line(Cursor::new("12345"), 5).expect("without a line end"), b"12345");
        // the limit is inside of a character of two bytes
        for text in ["123456", "12345\n", "1234\u{e9}\n"] {
            let failure = read_line(Cursor::new(text), 5).expect_err("too long");
            assert_eq!(failure.kind, FailureKind::Protocol);
            assert_eq!(failure.message, "request: expected at most 5 B, found more");
        }
    }

    #[test]
    fn an_error_of_standard_input_is_not_reported_as_malformed() {
        struct Faulty;
        impl Read for Faulty {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::from_raw_os_error(5))
            }
        }
        let failure = read_line(BufReader::new(Faulty), 5).expect_err("an error");
        assert_eq!(failure.kind, FailureKind::Io);
        assert!(failure.message.contains("Input/output error"), "{failure}");
    }

    #[test]
    fn a_request_of_another_version_is_refused_before_its_format_is_checked() {
        let failure = parse(b"{\"protocol\": 0, \"other\": 1}\n").expect_err("another version");
        assert!(failure.message.ends_with(", found 0"), "{failure}");
        let failure = parse(b"{\"protocol\": ").expect_err("not JSON");
        assert!(failure.message.contains("expected one line of JSON"), "{failure}");
    }
}

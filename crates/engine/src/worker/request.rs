//! Reads the request from standard input.

use crate::failures;
use modelgate_protocol::{Failure, FailureKind, PROTOCOL_VERSION, Request};
use std::io::{BufRead, Read};

/// The maximum length of a request in bytes.
const MAX_REQUEST_BYTES: u64 = 64 << 20;

/// Reads the request, which is one line on standard input.
///
/// # Errors
/// The request cannot be read, is not valid, or has another protocol version.
pub(super) fn read_request() -> Result<Request, Failure> {
    #[derive(serde::Deserialize)]
    struct Version {
        protocol: u32,
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().take(MAX_REQUEST_BYTES).read_line(&mut line);
    let malformed = |what: &dyn std::fmt::Display| {
        failures::start(
            FailureKind::Protocol,
            format!("request: expected one line of JSON in the format of the protocol: {what}"),
            "build the harness and the worker from the same sources",
        )
    };
    read.map_err(|error| malformed(&error))?;
    // the version first: a request of another version may have another format
    let version: Version = serde_json::from_str(&line).map_err(|error| malformed(&error))?;
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
    serde_json::from_str(&line).map_err(|error| malformed(&error))
}

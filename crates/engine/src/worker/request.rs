//! Reads the request from standard input.

use crate::failures;
use modelgate_protocol::{Failure, FailureKind, PROTOCOL_VERSION, Request};
use std::io::{BufRead, Read};

/// The longest request.
const MAX_REQUEST_BYTES: u64 = 64 << 20;

/// Reads the one request on standard input.
///
/// # Errors
/// It is of another version of the protocol, or not a request.
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
            format!("the request is not one line of JSON as the protocol defines it: {what}"),
            "build harness and worker from the same sources: they are of different versions",
        )
    };
    read.map_err(|error| malformed(&error))?;
    // the version first: a request of another one may have any form
    let version: Version = serde_json::from_str(&line).map_err(|error| malformed(&error))?;
    if version.protocol != PROTOCOL_VERSION {
        return Err(failures::start(
            FailureKind::Protocol,
            format!(
                "the request has protocol version {}; this worker supports {PROTOCOL_VERSION}",
                version.protocol
            ),
            "build harness and worker from the same sources",
        ));
    }
    serde_json::from_str(&line).map_err(|error| malformed(&error))
}

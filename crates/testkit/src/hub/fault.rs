//! Faults that the hub injects.

use super::request::Request;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A fault that affects some requests.
#[derive(Debug, Clone)]
pub struct Fault {
    /// A part of the request target (path and query); requests that contain it have the fault.
    pub target: String,
    /// The number of requests that still have the fault.
    pub times: usize,
    /// The behavior of the hub for these requests.
    pub action: Action,
}

impl Fault {
    /// Creates a fault for every request whose target contains `target`.
    pub fn of(target: &str, action: Action) -> Fault {
        Fault { target: target.to_owned(), times: usize::MAX, action }
    }

    /// Limits the fault to the next `times` requests.
    pub fn times(self, times: usize) -> Fault {
        Fault { times, ..self }
    }
}

/// The behavior of the hub for a request with a fault.
#[derive(Debug, Clone)]
pub enum Action {
    /// A response with this status, these headers and this body.
    Status(u16, Vec<(String, String)>, String),
    /// The connection is closed before the byte at this offset of the content.
    CutAt(u64),
    /// Nothing is sent from this byte offset of the content on, and the connection stays open.
    StallAt(u64),
    /// No content is sent until the flag is set.
    Hold(Arc<AtomicBool>),
    /// The content is sent at this rate, in bytes per second.
    Trickle(u64),
    /// A flip of the least significant bit of the byte at this offset of the content.
    FlipAt(u64),
    /// A response with this body and without `Content-Length`.
    Unsized(String),
    /// The complete content, without regard to the requested range.
    IgnoreRange,
    /// The complete content in chunks, without regard to the requested range, and without headers
    /// that describe it.
    Chunked,
    /// The complete content as the answer to each range, with a header that says so.
    StartAtZero,
    /// A refusal (status 416) of each request with a range.
    RefuseRange,
    /// A range that begins one byte after the requested one.
    OtherRange,
    /// At most this number of bytes of the requested range.
    ShortRange(u64),
    /// No header except for `Content-Length` and `Location`.
    BareHeaders,
    /// Links to the next page with the address of another host.
    LinkToOtherHost,
    /// The connection is closed before the first byte of a response.
    Close,
    /// Bytes that are not HTTP.
    Garbage,
}

/// Returns the action of the first fault that applies to `request`, and counts the fault down.
/// `None` if no fault applies.
pub(super) fn take_action(faults: &mut [Fault], request: &Request) -> Option<Action> {
    let applies = |fault: &&mut Fault| fault.times > 0 && request.target.contains(&fault.target);
    let fault = faults.iter_mut().find(applies)?;
    fault.times -= 1;
    Some(fault.action.clone())
}

//! Faults of the hub.

use super::request::Request;

/// Something that goes wrong with some requests.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Part of the target of the requests that have the fault.
    pub target: String,
    /// How often it happens.
    pub times: usize,
    /// What happens.
    pub action: Action,
}

impl Fault {
    /// Creates a fault of every request whose target contains `target`.
    pub fn of(target: &str, action: Action) -> Fault {
        Fault { target: target.to_owned(), times: usize::MAX, action }
    }

    /// Limits how often the fault happens.
    pub fn times(self, times: usize) -> Fault {
        Fault { times, ..self }
    }
}

/// What happens by a fault.
#[derive(Debug, Clone)]
pub enum Action {
    /// Another status, with headers and a body.
    Status(u16, Vec<(String, String)>, String),
    /// The connection ends before the content's byte of this offset.
    CutAt(u64),
    /// Nothing is sent from the content's byte of this offset on, and the connection stays open.
    StallAt(u64),
    /// So many bytes a second.
    Trickle(u64),
    /// The content's byte of this offset has another value.
    FlipAt(u64),
    /// A page without a length.
    Unsized(String),
    /// All of the content, whatever range was requested.
    IgnoreRange,
    /// Another range than the requested one.
    OtherRange,
    /// The connection ends before the first byte of an answer.
    Hang,
    /// Bytes that are not HTTP.
    Garbage,
}

/// Returns the fault of `request`, and counts it.
pub(super) fn acting(faults: &mut [Fault], request: &Request) -> Option<Action> {
    let applies = |fault: &&mut Fault| fault.times > 0 && request.target.contains(&fault.target);
    let fault = faults.iter_mut().find(applies)?;
    fault.times -= 1;
    Some(fault.action.clone())
}

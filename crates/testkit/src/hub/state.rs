//! The state of a hub.

use super::fault::Fault;
use super::repository::Repository;

/// A request, and how much was sent for it.
#[derive(Debug, Clone)]
pub struct Logged {
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The header `Range`.
    pub range: Option<String>,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// Bytes of the body that were sent.
    pub sent: u64,
}

/// The state of a hub.
#[derive(Default)]
pub(super) struct State {
    pub(super) repositories: Vec<Repository>,
    /// Valid tokens, each with the gated repositories that it may read.
    pub(super) tokens: Vec<(String, Vec<String>)>,
    pub(super) faults: Vec<Fault>,
    pub(super) log: Vec<Logged>,
}

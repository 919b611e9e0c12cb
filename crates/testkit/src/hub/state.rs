//! The state of a hub: repositories, tokens, faults and logged requests.

use super::fault::Fault;
use super::repository::Repository;

/// A request that the hub received.
#[derive(Debug, Clone)]
pub struct LoggedRequest {
    /// The HTTP method: `GET` or `HEAD`.
    pub method: String,
    /// The path and the query.
    pub target: String,
    /// The header `Range`. `None` if the request has none.
    pub range: Option<String>,
    /// The header `Authorization`. `None` if the request has none.
    pub authorization: Option<String>,
    /// The number of body bytes sent in response.
    pub sent: u64,
}

/// The mutable state of a hub.
#[derive(Default)]
pub(super) struct State {
    pub(super) repositories: Vec<Repository>,
    /// Valid tokens, each with the gated repositories that it can read.
    pub(super) tokens: Vec<(String, Vec<String>)>,
    pub(super) faults: Vec<Fault>,
    pub(super) log: Vec<LoggedRequest>,
}

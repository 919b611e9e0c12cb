//! A hub on loopback: responds like huggingface.co, over real connections, and injects faults.
//!
//! Like huggingface.co, it redirects requests for large files to another address (here: another
//! port), to which clients must not send a token. The hub logs every request. It closes each
//! connection after one response, so that a fault affects only one request.

mod answer;
mod fault;
mod repository;
mod request;
mod send;
mod server;
mod state;

pub use fault::{Action, Fault};
pub use repository::Repository;
pub use server::Hub;
pub use state::LoggedRequest;

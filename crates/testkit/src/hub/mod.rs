//! A hub on loopback: answers like huggingface.co, over real connections, with faults on demand.
//!
//! Large files are redirected, as there, to another address (a port of its own here), which must never
//! see a token. Every request is kept for the tests. Connections end after one answer, so that a fault
//! affects one request only.

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
pub use state::Logged;

//! The parent's side of a worker: one process per model, watched from spawn to reaping.
//!
//! Whatever the process does (crash, hang, fill the memory, send nonsense) becomes part of one model's
//! measurement. Knows the protocol; knows nothing of engines.

mod channel;
mod control_group;
mod ending;
mod error;
mod fold;
mod gpus;
mod host_probe;
mod supervise;
mod timeline;
mod worker_process;

#[cfg(test)]
pub(crate) use error::{Cause, SuperviseError};
pub use gpus::Gpus;
pub use supervise::{Job, Limits, Watch, supervise};

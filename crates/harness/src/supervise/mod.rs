//! Supervises workers: one process per model, watched from its start until it is reaped.
//!
//! All behaviour of the process (a crash, a hang, full memory, invalid events) becomes part of the
//! measurement of one model. This module depends on the protocol, and not on an engine.

mod channel;
mod control_group;
mod ending;
mod error;
mod gpus;
mod host_sampler;
mod record_builder;
mod supervise;
mod timeline;
mod worker_process;

#[cfg(test)]
pub(crate) use error::{Cause, SuperviseError};
pub use gpus::Gpus;
pub use supervise::{Limits, Watch, WorkerInput, supervise};

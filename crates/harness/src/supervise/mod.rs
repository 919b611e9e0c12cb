//! Supervises workers: one process per model, watched from its start until it is reaped.
//!
//! Every outcome of the process (for example a crash, a hang, exhausted memory or invalid events) is
//! recorded in the measurement of its model. This module depends on the protocol, not on an engine.

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

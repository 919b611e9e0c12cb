//! What crosses the wire between harness and worker: the [`Request`], and the [`Event`]s that answer
//! it.
//!
//! Plain data with serde, nothing else: no input or output, no process, no engine. A worker in
//! any language can be written from the schemas in `schemas/`, which a test holds equal to these
//! types.
//!
//! The channel: the harness writes one [`Request`] as a JSON line to the worker's standard input
//! and keeps it open; the worker writes [`Event`]s as JSON lines to the file descriptor whose
//! number is in [`EVENTS_FD`]. Standard output and standard error carry no protocol. A worker ends
//! when its standard input is closed: the harness is gone, or wants it to stop. Memory is measured
//! of the process that the harness starts, so a script in front of a worker has to `exec` it.

mod activity;
mod device;
mod device_memory;
mod dtype;
mod engine;
mod event;
mod failure;
mod finite;
mod generation;
mod request;
mod role;
mod scheme;
mod tensor;

pub use activity::{Activity, ActivityName, Ceiling, CeilingName};
pub use device::{Device, Location, UnknownDevice};
pub use device_memory::{DeviceSeen, PoolMemory};
pub use dtype::DType;
pub use engine::Engine;
pub use event::{Event, PhaseName, Progress, ProgressUnit};
pub use failure::{Failure, FailureKind, Stage};
pub use finite::Finite;
pub use generation::{Agreement, FinishReason, Generation, Perplexity};
pub use request::{
    ContentPart, Evidence, GenerationRequest, Message, ModelFiles, Request, WeightFormat,
};
pub use role::{Role, UnknownRole};
pub use scheme::Scheme;
pub use tensor::{Omitted, Tensor};

/// Version of the conversation between harness and worker. A worker that was built for another one
/// is refused by name of both.
pub const PROTOCOL_VERSION: u32 = 3;

/// Environment variable that tells the worker the number of the file descriptor to write events to.
pub const EVENTS_FD: &str = "MODELGATE_EVENTS_FD";

/// Argument with which a worker prints its [`Engine`] as one line of JSON and ends, so that the
/// harness knows what it was built for before it trusts a model on a GPU to it.
pub const TELL_ENGINE: &str = "--engine";

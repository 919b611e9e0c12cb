//! The protocol between harness and worker: the [`Request`], and the [`Event`]s that answer it.
//!
//! The crate contains only data types with serde. A worker in any language can be written from the
//! JSON schemas in `schemas/`; a test compares them with these types.
//!
//! The channel: the harness writes one [`Request`] as a line of JSON to the standard input of the
//! worker, and keeps the input open. The worker writes [`Event`]s as lines of JSON to the file
//! descriptor whose number is in the environment variable [`EVENTS_FD`]. Standard output and
//! standard error are not part of the protocol. A worker ends when its standard input is closed,
//! because the harness has ended or stops the worker.
//! The harness measures the memory of the process that it starts, so a script that wraps a worker
//! has to `exec` it.

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
pub use device_memory::{DeviceRecord, PoolMemory};
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

/// The version of the protocol. The harness refuses a worker with another version, and names both.
pub const PROTOCOL_VERSION: u32 = 4;

/// The environment variable with the number of the file descriptor for events.
pub const EVENTS_FD: &str = "MODELGATE_EVENTS_FD";

/// The argument with which a worker prints its [`Engine`] as one line of JSON and ends. The harness
/// uses it before it starts a model on a GPU.
pub const ENGINE_ARGUMENT: &str = "--engine";

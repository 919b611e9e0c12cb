//! The harness: plans what is to be validated, runs one worker per model, judges what was seen of it and
//! reports.
//!
//! One direction, no way back: manifest -> plan -> acquire -> admit -> supervise, watched by probes ->
//! measurement -> checks -> report. Each arrow is a value. [`run::main`] is what the test target `models`
//! calls. The harness links no engine: it talks to a worker process, see `modelgate_protocol`.

pub mod acquire;
pub mod admission;
pub mod check;
pub mod embedded;
mod hash;
pub mod host;
mod lock;
pub mod manifest;
pub mod measurement;
#[cfg(test)]
mod messages;
pub mod nvidia;
pub mod plan;
mod process;
mod progress;
pub mod report;
pub mod reportable;
pub mod run;
pub mod settings;
pub mod signal;
pub mod store;
pub mod supervise;
pub mod workers;

//! The harness of modelgate: plans the models and their checks, runs one worker process per model,
//! judges the measurements, and writes the reports.
//!
//! # Layout
//!
//! Data flows in one direction, and each arrow is one value:
//!
//! ```text
//! manifest -> plan -> acquire -> admit -> supervise -> measurement -> check -> report
//! ```
//!
//! - [`settings`]: the environment of the process, resolved once.
//! - [`manifest`], [`plan`]: the models and checks to run, and the inputs of each model.
//! - [`acquire`]: the files of a model, local or from the hub.
//! - [`admission`]: whether the load fits on the GPU and the host.
//! - [`workers`], [`supervise`], [`nvidia`]: the worker program, its process and its device memory.
//! - [`measurement`], [`check`]: everything that was measured, and the verdicts.
//! - [`store`], [`report`]: the results of a run on disk, and its reports.
//! - [`run`]: the complete flow; [`run::main`] is the test target `models`.
//!
//! The harness does not link an engine: it talks to a worker process with `modelgate_protocol`.
//!
//! # Example
//!
//! ```
//! use modelgate_harness::manifest::Manifest;
//!
//! let text = r#"
//!     schema = 1
//!     [[model]]
//!     id = "my-model"
//!     path = "/data/models/my-model"
//!     quantization = "q4_k"
//! "#;
//! let manifest = Manifest::parse(text, "models.toml", None).expect("a valid manifest");
//! assert_eq!(manifest.models[0].id, "my-model");
//! ```

pub mod acquire;
pub mod admission;
pub mod check;
pub mod embedded;
mod hash;
pub mod host;
mod host_memory;
mod lock;
pub mod manifest;
pub mod measurement;
mod memory_rate;
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

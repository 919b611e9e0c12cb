//! The report of a run: a function of its store, independent of the manifest, processes and
//! devices.

mod build;
mod report;
mod summary;
mod write;

pub use build::build;
pub use report::{ModelReport, Report, Run, RunState, SCHEMA_VERSION};
pub use summary::{files, summary};
pub use write::write;
pub(crate) use write::{remove, reserve};

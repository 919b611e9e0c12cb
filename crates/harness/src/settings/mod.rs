//! The input of a run: the environment of the process, and the settings resolved from it once.

mod build_folders;
mod environment;
mod error;
mod resolve;
pub mod variables;

pub use environment::Environment;
pub use error::SettingsError;
pub use resolve::{BuildSettings, Settings, WorkerSettings};

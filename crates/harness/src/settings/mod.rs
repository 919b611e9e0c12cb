//! The input of a run: the command line and the environment of the process, and the settings
//! resolved from the environment once.

mod build_folders;
mod command_line;
mod environment;
mod error;
mod resolve;
pub mod variables;

pub use command_line::{CommandLine, CommandLineError, Invocation};
pub use environment::Environment;
pub use error::SettingsError;
pub use resolve::{BuildSettings, Settings, WorkerSettings};

//! The environment that the operating system gives to this process. No other file reads it.

use modelgate_hub::Variables;
use std::path::PathBuf;

/// The environment of a process, before interpretation.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The environment variables.
    pub variables: Variables,
    /// The path of the running program.
    pub exe: PathBuf,
    /// The folder of the operating system for temporary files.
    pub temp_dir: PathBuf,
}

impl Environment {
    /// Reads the environment of this process.
    pub fn from_process() -> Environment {
        Environment {
            variables: Variables::from_process(),
            exe: std::env::current_exe().unwrap_or_default(),
            temp_dir: std::env::temp_dir(),
        }
    }
}

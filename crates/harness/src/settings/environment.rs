//! What the operating system gives to this process: the only place that reads it.

use modelgate_hub::Variables;
use std::path::PathBuf;

/// The environment of a process, with no meaning yet.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Its environment variables.
    pub variables: Variables,
    /// The running program.
    pub exe: PathBuf,
    /// The system's folder for temporary files.
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

//! A worker program and what it needs to start.

use crate::env::{self, Variables};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

/// A worker program that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltWorker {
    /// The program.
    pub program: PathBuf,
    /// The folder of the libraries that it is linked to, where the system may not know it.
    pub libraries: Option<PathBuf>,
}

impl BuiltWorker {
    /// A program that finds its libraries itself.
    pub fn at(program: PathBuf) -> BuiltWorker {
        BuiltWorker { program, libraries: None }
    }

    /// The command that starts it, without the tokens of this process. Its libraries come after those
    /// of the user's own choice.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for name in Variables::from_process().secret_names() {
            command.env_remove(name);
        }
        if let Some(folder) = &self.libraries {
            let present = std::env::var_os(env::LD_LIBRARY_PATH);
            command.env(env::LD_LIBRARY_PATH, appended(present.as_deref(), folder.as_os_str()));
        }
        command
    }
}

/// The search path `present` with `folder` after all that it has. An empty entry of it, which
/// would mean the working folder, is not made.
pub(crate) fn appended(present: Option<&OsStr>, folder: &OsStr) -> OsString {
    match present.filter(|present| !present.is_empty()) {
        None => folder.to_owned(),
        Some(present) => [present, OsStr::new(":"), folder].into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_s_libraries_come_first() {
        let folder = OsStr::new("/cuda/lib64");
        assert_eq!(appended(None, folder), "/cuda/lib64");
        assert_eq!(appended(Some(OsStr::new("")), folder), "/cuda/lib64");
        assert_eq!(appended(Some(OsStr::new("/mine:/ours")), folder), "/mine:/ours:/cuda/lib64");
    }

    #[test]
    fn the_program_is_started_with_them() {
        let built =
            BuiltWorker { program: "/bin/sh".into(), libraries: Some("/somewhere/lib".into()) };
        let output = built.command().args(["-c", "echo $LD_LIBRARY_PATH"]).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.trim_end().ends_with("/somewhere/lib"), "{text}");
    }
}

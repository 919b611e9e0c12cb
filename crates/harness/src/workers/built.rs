//! A worker program and what it needs to start.

use crate::settings::variables::LD_LIBRARY_PATH;
use modelgate_hub::Variables;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

/// The name of the worker program.
pub(super) const WORKER_NAME: &str = "modelgate-worker";

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

    /// Returns the command that starts the program with the variables `inherited`. Its own libraries
    /// come after those that the user chose.
    pub(crate) fn command(&self, inherited: &Variables) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(inherited.iter());
        if let Some(folder) = &self.libraries {
            let present = inherited.get(LD_LIBRARY_PATH);
            command.env(LD_LIBRARY_PATH, appended(present, folder.as_os_str()));
        }
        command
    }
}

/// Returns the search path `present` with `folder` as its last entry. No empty entry, which would mean
/// the working folder, is added.
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
        let inherited = Variables::default();
        let output =
            built.command(&inherited).args(["-c", "echo $LD_LIBRARY_PATH"]).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.trim_end(), "/somewhere/lib");
    }
}

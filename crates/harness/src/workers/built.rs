//! A worker program with the settings for its start.

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
    /// The path of the program.
    pub program: PathBuf,
    /// The folder of the libraries that the program is linked to. `None` if the loader finds them
    /// without it.
    pub libraries: Option<PathBuf>,
}

impl BuiltWorker {
    /// Creates a worker whose libraries the loader finds without a folder.
    pub fn at(program: PathBuf) -> BuiltWorker {
        BuiltWorker { program, libraries: None }
    }

    /// Returns the command that starts the program with the variables `inherited`. The folder of
    /// its libraries comes after those that the user set.
    pub(crate) fn command(&self, inherited: &Variables) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(inherited.iter());
        if let Some(folder) = &self.libraries {
            let present = inherited.get(LD_LIBRARY_PATH);
            command.env(LD_LIBRARY_PATH, append_folder(present, folder.as_os_str()));
        }
        command
    }
}

/// Returns the search path `present` with `folder` as its last entry. No empty entry is added,
/// because it would mean the working folder.
pub(crate) fn append_folder(present: Option<&OsStr>, folder: &OsStr) -> OsString {
    match present.filter(|present| !present.is_empty()) {
        None => folder.to_owned(),
        Some(present) => [present, OsStr::new(":"), folder].into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_folders_of_the_user_come_first() {
        let folder = OsStr::new("/cuda/lib64");
        assert_eq!(append_folder(None, folder), "/cuda/lib64");
        assert_eq!(append_folder(Some(OsStr::new("")), folder), "/cuda/lib64");
        assert_eq!(
            append_folder(Some(OsStr::new("/mine:/ours")), folder),
            "/mine:/ours:/cuda/lib64"
        );
    }

    #[test]
    fn a_program_starts_with_its_library_folder_in_the_search_path() {
        let built =
            BuiltWorker { program: "/bin/sh".into(), libraries: Some("/somewhere/lib".into()) };
        let inherited = Variables::default();
        let output =
            built.command(&inherited).args(["-c", "echo $LD_LIBRARY_PATH"]).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.trim_end(), "/somewhere/lib");
    }
}

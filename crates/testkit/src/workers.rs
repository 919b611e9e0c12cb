//! Programs that replace the worker in tests, and paths of project files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An executable script in a temporary folder, which is removed when the value is dropped.
pub struct Script {
    _folder: TempDir,
    path: PathBuf,
}

impl Script {
    /// Writes a script. `text` starts with the interpreter line (`#!`).
    pub fn new(text: &str) -> Script {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("worker");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Script { _folder: folder, path }
    }

    /// Returns the path of the script.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns the path of `name` below the root of the repository.
pub fn project_path(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap().join(name)
}

/// Returns the path of `name` below the folder `fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    project_path("fixtures").join(name)
}

/// Returns the path of the scripted Python worker, which implements the protocol and reports
/// invented values.
pub fn scripted_worker() -> PathBuf {
    project_path("tests/workers/scripted_worker.py")
}

/// Returns a script with the source of [`scripted_worker`], in which each first string of `changes` is
/// replaced by the second one.
pub fn scripted_worker_with(changes: &[(&str, &str)]) -> Script {
    let mut source = std::fs::read_to_string(scripted_worker()).unwrap();
    for (from, to) in changes {
        assert!(source.contains(from), "{from}");
        source = source.replace(from, to);
    }
    Script::new(&source)
}

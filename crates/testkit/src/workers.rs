//! Programs that stand in for the worker, and files of the project.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An executable script in a folder of its own.
pub struct Script {
    _folder: TempDir,
    path: PathBuf,
}

impl Script {
    /// Writes `text`, which begins with the interpreter's line.
    pub fn new(text: &str) -> Script {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("worker");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Script { _folder: folder, path }
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns the path of `name` in the project.
pub fn project(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap().join(name)
}

/// Returns the path of `name` below `fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    project("fixtures").join(name)
}

/// Returns the path of the worker in Python, which speaks the protocol and makes every value up.
pub fn made_up() -> PathBuf {
    project("tests/workers/made_up.py")
}

/// Returns the source of [`made_up`] with each `from` replaced by `to`.
pub fn made_up_with(changes: &[(&str, &str)]) -> Script {
    let mut source = std::fs::read_to_string(made_up()).unwrap();
    for (from, to) in changes {
        assert!(source.contains(from), "{from}");
        source = source.replace(from, to);
    }
    Script::new(&source)
}

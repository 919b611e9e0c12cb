//! The files embedded in the program: the default manifest and the tiny models.
//!
//! They are embedded so that a test binary that was built elsewhere or moved still has them. Before
//! a load, they are written once to a folder below the temporary folder of the operating system.

use include_dir::{Dir, include_dir};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};

/// The text of the default manifest.
pub const MANIFEST: &str = include_str!("../../../../fixtures/models.toml");
/// The name of the default manifest in errors.
pub const MANIFEST_NAME: &str = "fixtures/models.toml (embedded)";

static TINY_MODELS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../fixtures/tiny");

/// The first component of the paths of bundled files in the default manifest.
const ROOT: &str = "tiny";

/// Returns the text of a bundled file, by its path in the default manifest. `None` if no such file
/// is bundled, or if it is not UTF-8.
pub fn text(path: &Path) -> Option<&'static str> {
    TINY_MODELS.get_file(path.strip_prefix(ROOT).ok()?)?.contents_utf8()
}

/// Writes the bundled model at `path` (as in the default manifest) to `scratch`, and returns its
/// folder. An existing folder is kept.
///
/// The name of the folder is the hash of its content, and the folder is renamed into place when it
/// is complete, so that concurrent runs and other versions do not conflict. A modified folder is
/// created again.
///
/// # Errors
/// No such model is bundled, or the folder cannot be written.
pub fn extract(path: &Path, scratch: &Path) -> io::Result<PathBuf> {
    let not_found = || io::Error::new(io::ErrorKind::NotFound, "no bundled model has this path");
    let embedded_path = path.strip_prefix(ROOT).map_err(|_| not_found())?;
    let dir = TINY_MODELS.get_dir(embedded_path).ok_or_else(not_found)?;
    let mut hash = Sha256::new();
    for file in dir.files() {
        hash.update(file.path().as_os_str().as_encoded_bytes());
        hash.update(file.contents());
    }
    let digest = hex::encode(&hash.finalize()[..8]);
    let name = embedded_path.file_name().ok_or_else(not_found)?.to_string_lossy().into_owned();
    let target = scratch.join("bundled").join(format!("{name}-{digest}"));
    let is_complete = || {
        dir.files().all(|file| {
            let name = file.path().file_name().unwrap_or_default();
            std::fs::read(target.join(name)).is_ok_and(|content| content == file.contents())
        })
    };
    if is_complete() {
        return Ok(target);
    }
    let parent = target.parent().ok_or_else(not_found)?;
    std::fs::create_dir_all(parent)?;
    let new_folder = tempfile::Builder::new().prefix(".bundled-").tempdir_in(parent)?;
    for file in dir.files() {
        let name = file.path().file_name().ok_or_else(not_found)?;
        std::fs::write(new_folder.path().join(name), file.contents())?;
    }
    if target.is_dir() && !is_complete() {
        // cleaners of temporary folders remove old files one by one
        let damaged = tempfile::Builder::new().prefix(".damaged-").tempdir_in(parent)?;
        std::fs::rename(&target, damaged.path().join("model"))?;
    }
    match std::fs::rename(new_folder.path(), &target) {
        // another process was faster: its folder has the same content
        Err(_) if is_complete() => Ok(target),
        Err(error) => Err(error),
        Ok(()) => Ok(target),
    }
}

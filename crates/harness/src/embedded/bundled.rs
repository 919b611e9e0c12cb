//! The files embedded in the program: the default manifest and the tiny models.
//!
//! They are embedded so that a test binary that was built elsewhere or moved still has them. Before
//! a load, they are written once to a folder below the temporary folder of the operating system.

use include_dir::{Dir, include_dir};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};

/// The default manifest.
pub const MANIFEST: &str = include_str!("../../../../fixtures/models.toml");
/// The name of the default manifest in errors.
pub const MANIFEST_NAME: &str = "fixtures/models.toml (embedded)";

static TINY: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../fixtures/tiny");

/// The name of the embedded folder in the default manifest.
const ROOT: &str = "tiny";

/// Returns the text of a bundled file, by its path in the default manifest.
pub fn text(path: &Path) -> Option<&'static str> {
    TINY.get_file(path.strip_prefix(ROOT).ok()?)?.contents_utf8()
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
    let missing = || io::Error::new(io::ErrorKind::NotFound, "not among the bundled models");
    let inside = path.strip_prefix(ROOT).map_err(|_| missing())?;
    let dir = TINY.get_dir(inside).ok_or_else(missing)?;
    let mut hash = Sha256::new();
    for file in dir.files() {
        hash.update(file.path().as_os_str().as_encoded_bytes());
        hash.update(file.contents());
    }
    let digest = hex::encode(&hash.finalize()[..8]);
    let name = inside.file_name().ok_or_else(missing)?.to_string_lossy().into_owned();
    let target = scratch.join("bundled").join(format!("{name}-{digest}"));
    let is_whole = || {
        dir.files().all(|file| {
            let name = file.path().file_name().unwrap_or_default();
            std::fs::read(target.join(name)).is_ok_and(|content| content == file.contents())
        })
    };
    if is_whole() {
        return Ok(target);
    }
    let parent = target.parent().ok_or_else(missing)?;
    std::fs::create_dir_all(parent)?;
    let fresh = tempfile::Builder::new().prefix(".bundled-").tempdir_in(parent)?;
    for file in dir.files() {
        let name = file.path().file_name().ok_or_else(missing)?;
        std::fs::write(fresh.path().join(name), file.contents())?;
    }
    if target.is_dir() && !is_whole() {
        // cleaners of temporary folders remove old files one by one
        let damaged = tempfile::Builder::new().prefix(".damaged-").tempdir_in(parent)?;
        std::fs::rename(&target, damaged.path().join("model"))?;
    }
    match std::fs::rename(fresh.path(), &target) {
        // another process was faster: its folder has the same content
        Err(_) if is_whole() => Ok(target),
        Err(error) => Err(error),
        Ok(()) => Ok(target),
    }
}

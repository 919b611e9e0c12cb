//! Symlinks whose target does not exist, for example in a cache whose blobs were deleted.

use std::path::{Path, PathBuf};

/// Returns the target of a symlink that does not exist. `None` if `path` is not a symlink, or if its
/// target exists.
pub fn missing_target(path: &Path) -> Option<PathBuf> {
    let target = std::fs::read_link(path).ok()?;
    (!path.exists()).then_some(target)
}

/// Describes a symlink whose target does not exist.
pub fn dangling_message(link: &Path, target: &Path) -> String {
    format!("{}: the target of the symlink does not exist: {}", link.display(), target.display())
}

/// How to restore the target of a symlink.
pub const DANGLING_HINT: &str =
    "download the file again; or copy the model with its links followed, for example with `cp -rL`";

//! An operation on a file or folder of the cache that failed.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on a file or folder that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {operation} failed: {source}", path.display())]
pub(crate) struct DiskError {
    /// The name of the operation, for example `rename`.
    pub(crate) operation: &'static str,
    pub(crate) path: PathBuf,
    /// The error of the operating system.
    pub(crate) source: io::Error,
}

/// Returns a function that adds the operation and the path to an error of the operating system.
pub(crate) fn failed(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> DiskError + use<> {
    let path = path.to_owned();
    move |source| DiskError { operation, path, source }
}

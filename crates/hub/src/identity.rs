//! The metadata that show whether a file has changed.

use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// The size, modification time and inode of a file. While they are equal, the content counts as
/// unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    bytes: u64,
    /// The modification time in seconds since 1970.
    modified_s: i64,
    /// The remainder of the modification time in nanoseconds.
    modified_ns: i64,
    inode: u64,
}

impl Identity {
    /// Returns the identity of the file with this metadata.
    pub(crate) fn of(metadata: &Metadata) -> Identity {
        Identity {
            bytes: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
            inode: metadata.ino(),
        }
    }
}

//! By what a file is recognised as unchanged.

use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Size, time and inode of a file: as long as they are the same, its content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    bytes: u64,
    /// Whole seconds since 1970.
    modified_s: i64,
    /// The rest in nanoseconds.
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

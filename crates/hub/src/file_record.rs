//! The record of each weight file: size, hash, and how it was verified.

use modelgate_model::layout::LayoutError;
use modelgate_protocol::{Finite, ModelFiles};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A weight file of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FileRecord {
    /// The path relative to the folder of the model.
    pub name: String,
    /// The size of the file.
    pub bytes: u64,
    /// The SHA-256 in hexadecimal. `None` if it is not known.
    pub sha256: Option<String>,
    /// How the content was verified.
    pub verified: Verified,
    /// The fraction of the file that was in the page cache before the load. `None` if the operating
    /// system does not report it.
    pub page_cache_fraction: Option<Finite>,
}

/// How the content of a file was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verified {
    /// The content was hashed in this run.
    #[serde(alias = "now")]
    HashedNow,
    /// The content was hashed in an earlier run. Size, modification time and inode are unchanged
    /// since.
    #[serde(alias = "earlier")]
    HashedEarlier,
    /// Only the size was compared.
    #[serde(alias = "size")]
    SizeCompared,
    /// The content was not verified, because the expected hash and size are not known.
    #[serde(alias = "no")]
    Unverified,
}

/// How the content of a file was verified, and its SHA-256 if it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verification {
    pub(crate) verified: Verified,
    pub(crate) sha256: Option<String>,
}

impl Verification {
    /// Returns the verification of a content that was hashed in this run.
    pub(crate) fn now(sha256: String) -> Verification {
        Verification { verified: Verified::HashedNow, sha256: Some(sha256) }
    }
}

/// The verifications of files by their paths in the repository.
pub(crate) type Verifications = BTreeMap<String, Verification>;

/// Returns the records of local weight files, which are not verified because no expected hash is
/// known.
///
/// # Errors
/// The metadata of a file cannot be read.
pub fn local_files(files: &ModelFiles) -> Result<Vec<FileRecord>, LayoutError> {
    file_records(files, |_| None)
}

/// Returns the records of the weights among `files`. `verification` returns how the file at a path
/// was verified.
///
/// # Errors
/// The metadata of a file cannot be read.
pub(crate) fn file_records(
    files: &ModelFiles,
    verification: impl Fn(&Path) -> Option<Verification>,
) -> Result<Vec<FileRecord>, LayoutError> {
    let record = |path: &Path| {
        let metadata = std::fs::metadata(path).map_err(|error| LayoutError::io(path, error))?;
        let name = path.strip_prefix(&files.root).unwrap_or(path);
        let Verification { verified, sha256 } = verification(path)
            .unwrap_or(Verification { verified: Verified::Unverified, sha256: None });
        Ok(FileRecord {
            name: name.display().to_string(),
            bytes: metadata.len(),
            sha256,
            verified,
            page_cache_fraction: None,
        })
    };
    files.weights.iter().map(|path| record(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelgate_protocol::{FailureKind, WeightFormat};

    #[test]
    fn local_weights_are_recorded_unverified_and_relative_to_their_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, "12345").expect("written");
        let files = ModelFiles::new(folder.path(), WeightFormat::Safetensors, vec![path.clone()]);
        let expected = FileRecord {
            name: "model.safetensors".into(),
            bytes: 5,
            sha256: None,
            verified: Verified::Unverified,
            page_cache_fraction: None,
        };
        assert_eq!(local_files(&files).expect("records"), [expected]);
        std::fs::remove_file(path).expect("removed");
        assert_eq!(local_files(&files).expect_err("the file was removed").kind, FailureKind::Io);
    }
}

//! The result of a download.

use crate::error::HubError;
use crate::file_record::{FileRecord, Verifications, file_records};
use crate::job::Job;
use modelgate_protocol::ModelFiles;
use std::path::Path;

/// The files of a model in the cache.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The paths of the files.
    pub files: ModelFiles,
    /// The records of the weight files, in the order of `files.weights`.
    pub weights: Vec<FileRecord>,
    /// The commit of the revision.
    pub commit: String,
    /// Bytes received over the network.
    pub downloaded_bytes: u64,
    /// Notes for the report, for example that a wrong file was replaced.
    pub notes: Vec<String>,
}

impl Fetched {
    /// Returns `files` of `commit` with the records of their verification.
    ///
    /// # Errors
    /// The metadata of a file cannot be read.
    pub(crate) fn new(
        job: &Job,
        files: ModelFiles,
        commit: &str,
        verifications: &Verifications,
    ) -> Result<Fetched, HubError> {
        let snapshot = job.cache.snapshot(commit);
        let verification = |path: &Path| {
            let path = path.strip_prefix(&snapshot).ok()?.to_str()?;
            verifications.get(path).cloned()
        };
        let weights = file_records(&files, verification)?;
        let commit = commit.to_owned();
        Ok(Fetched { files, weights, commit, downloaded_bytes: 0, notes: Vec::new() })
    }
}

//! What a fetch returns.

use crate::error::HubError;
use crate::file_seen::{FileSeen, Verifications, file_records};
use crate::job::Job;
use modelgate_protocol::ModelFiles;
use std::path::Path;

/// The files of a model in the cache.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The files.
    pub files: ModelFiles,
    /// The records of the files of the weights, in the same order.
    pub weights: Vec<FileSeen>,
    /// The commit of the revision.
    pub commit: String,
    /// Bytes that came over the network.
    pub downloaded_bytes: u64,
    /// What a reader of the report should know about the fetch.
    pub notes: Vec<String>,
}

impl Fetched {
    /// Returns `files` of `commit` with what is known of their verification.
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

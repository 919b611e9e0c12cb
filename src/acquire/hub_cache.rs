//! A repository that is already in the Hugging Face cache, a read-only one too.
//!
//! hf-hub knows where the cache is (`HF_HOME`, `HF_HUB_CACHE`) and how it is laid out. Nothing is
//! fetched here.

use crate::known;
use hf_hub::{HFClientSync, HFError};
use modelgate_protocol::{Failure, FailureKind, Stage};
use std::path::{Path, PathBuf};

/// A commit of a repository, as the cache holds it.
pub(super) struct Snapshot {
    /// The folder.
    pub(super) path: PathBuf,
    /// The commit.
    pub(super) commit: String,
}

/// The cached snapshot of `repo` at `revision`.
///
/// # Errors
/// `not_downloaded` where the cache does not have it.
pub(super) fn snapshot(repo: &str, revision: &str) -> Result<Snapshot, Failure> {
    let (owner, name) = repo.split_once('/').unwrap_or((repo, ""));
    let internal = |error: &HFError| {
        Failure::new(
            Stage::Acquire,
            FailureKind::Io,
            format!("{repo}: the Hugging Face cache cannot be read: {error}"),
            "HF_HOME or HF_HUB_CACHE says where the cache is",
        )
    };
    let client = HFClientSync::new().map_err(|error| internal(&error))?;
    let found = client
        .model(owner, name)
        .snapshot_download()
        .revision(revision.to_owned())
        .local_files_only(true)
        .send();
    match found {
        Ok(path) => {
            let commit =
                path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            Ok(Snapshot { path, commit })
        }
        Err(HFError::LocalEntryNotFound { path }) => {
            Err(not_downloaded(repo, revision, &cache_dir().join(path)))
        }
        Err(error) => Err(internal(&error)),
    }
}

/// The failure for files that are not in the cache.
pub(super) fn not_downloaded(repo: &str, revision: &str, looked_at: &Path) -> Failure {
    let meant = known::meant(repo).map_or(String::new(), |name| format!("is {name} meant? Else "));
    Failure::new(
        Stage::Acquire,
        FailureKind::NotDownloaded,
        format!(
            "{repo} (revision {revision}) is not in the local Hugging Face cache: looked for {}",
            looked_at.display()
        ),
        meant
            + &format!(
                "fetch it with `hf download {repo} --revision {revision}` (a gated repository needs \
             `hf auth login` first), or point HF_HOME at the cache that has it"
            ),
    )
}

fn cache_dir() -> PathBuf {
    hf_hub::resolve_cache_dir()
}

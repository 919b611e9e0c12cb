//! A model whose small files are in the cache, and the fetch of its weights.

use crate::disk::write_error;
use crate::download::Download;
use crate::ensure::ensure;
use crate::error::HubError;
use crate::fetched::Fetched;
use crate::file_seen::Verifications;
use crate::interrupt::unless_interrupted;
use crate::job::Job;
use crate::listing::ListedFile;
use crate::runtime::Runtime;
use crate::select::NeededWeights;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model whose small files are in the cache: its config can be read before the weights are fetched.
/// Dropping it gives up the fetch.
pub struct Opened {
    job: Arc<Job>,
    state: State,
}

enum State {
    /// All files are in the cache, and no request is sent.
    Cached(Fetched),
    /// The hub has listed the files.
    Listed(ListedModel),
}

/// A model whose files are listed and whose small files are in the cache.
pub(crate) struct ListedModel {
    pub(crate) runtime: Runtime,
    pub(crate) download: Arc<Download>,
    pub(crate) listing: Vec<ListedFile>,
    pub(crate) weights: NeededWeights,
    /// The config of a safetensors model.
    pub(crate) config: Option<PathBuf>,
    /// How the small files were verified.
    pub(crate) verifications: Verifications,
    /// What a user should know about the small files.
    pub(crate) notes: Vec<String>,
}

impl Opened {
    /// Returns a model that was found in the cache alone.
    pub(crate) fn cached(job: Arc<Job>, fetched: Fetched) -> Opened {
        Opened { job, state: State::Cached(fetched) }
    }

    /// Returns a model that the hub has listed.
    pub(crate) fn listed(job: Arc<Job>, model: ListedModel) -> Opened {
        Opened { job, state: State::Listed(model) }
    }

    /// Returns the path of the config; `None` for a GGUF file, whose metadata are in the file itself.
    pub fn config(&self) -> Option<&Path> {
        match &self.state {
            State::Cached(fetched) => fetched.files.config.as_deref(),
            State::Listed(model) => model.config.as_deref(),
        }
    }

    /// Returns the commit of the revision.
    pub fn commit(&self) -> &str {
        match &self.state {
            State::Cached(fetched) => &fetched.commit,
            State::Listed(model) => model.download.commit(),
        }
    }

    /// Fetches the weights that the cache lacks, and returns all files.
    ///
    /// # Errors
    /// A file cannot be fetched, verified or written.
    pub fn weights(self) -> Result<Fetched, HubError> {
        match self.state {
            State::Cached(fetched) => {
                fetched.notes.iter().for_each(|note| self.job.observer.note(note));
                Ok(fetched)
            }
            State::Listed(model) => {
                let ListedModel {
                    runtime, download, listing, weights, verifications, notes, ..
                } = model;
                let work = fetch(&self.job, &download, &listing, weights, verifications, notes);
                runtime.block_on(unless_interrupted(&*self.job.observer, work))
            }
        }
    }
}

/// Fetches the weights, and records in the cache that it has the commit.
async fn fetch(
    job: &Job,
    download: &Arc<Download>,
    listing: &[ListedFile],
    weights: NeededWeights,
    mut verifications: Verifications,
    mut notes: Vec<String>,
) -> Result<Fetched, HubError> {
    let (cache, commit) = (&job.cache, download.commit());
    let weights = job.weight_files(weights, listing, commit)?;
    verifications.extend(ensure(download, &weights, &mut notes).await?);
    let downloaded_bytes = download.received_bytes();
    if !job.names_commit()
        && let Err(error) = cache.set_commit(&job.source.revision, commit)
        // a cache that had all files need not be writable
        && downloaded_bytes > 0
    {
        return Err(write_error(&job.context(commit), cache.root(), error));
    }
    cache.store_listing(commit, listing);
    cache.remove_old_partials();
    let files = job.model_files(commit)?;
    let fetched = Fetched::new(job, files, commit, &verifications)?;
    Ok(Fetched { downloaded_bytes, notes, ..fetched })
}

//! A model with its small files in the cache, and the download of its weights.

use crate::disk::write_error;
use crate::download::Download;
use crate::ensure::ensure;
use crate::error::HubError;
use crate::fetched::Fetched;
use crate::file_record::Verifications;
use crate::interrupt::unless_interrupted;
use crate::job::Job;
use crate::listing::ListedFile;
use crate::runtime::Runtime;
use crate::select::NeededWeights;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model with its small files in the cache, so that its config can be read before the weights are
/// downloaded. Dropping it cancels the download.
pub struct Opened {
    job: Arc<Job>,
    state: State,
}

enum State {
    /// All files were found in the cache, and no request is sent.
    Cached(Fetched),
    /// The hub has listed the files.
    Listed(ListedModel),
}

/// A model with a listing of its files, and with its small files in the cache.
pub(crate) struct ListedModel {
    pub(crate) runtime: Runtime,
    pub(crate) download: Arc<Download>,
    pub(crate) listing: Vec<ListedFile>,
    pub(crate) weights: NeededWeights,
    /// The path of the config. `None` for a GGUF file.
    pub(crate) config: Option<PathBuf>,
    /// The verifications of the small files.
    pub(crate) verifications: Verifications,
    /// Notes about the small files.
    pub(crate) notes: Vec<String>,
}

impl Opened {
    /// Returns a model that was found in the cache without a listing of the hub.
    pub(crate) fn cached(job: Arc<Job>, fetched: Fetched) -> Opened {
        Opened { job, state: State::Cached(fetched) }
    }

    /// Returns a model that the hub has listed.
    pub(crate) fn listed(job: Arc<Job>, model: ListedModel) -> Opened {
        Opened { job, state: State::Listed(model) }
    }

    /// Returns the path of the config. `None` for a GGUF file, which contains its metadata.
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

    /// Downloads the weights that are missing from the cache, and returns all files.
    ///
    /// # Errors
    /// A file cannot be downloaded, verified or written, or a signal ended the run.
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
                let work =
                    fetch_weights(&self.job, &download, &listing, weights, verifications, notes);
                runtime.block_on(unless_interrupted(&*self.job.observer, work))
            }
        }
    }
}

/// Downloads the weights, and records the commit of the revision in the cache.
async fn fetch_weights(
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
        // a cache that contained all files may be read-only
        && downloaded_bytes > 0
    {
        return Err(write_error(&job.context(commit), error));
    }
    cache.store_listing(commit, listing);
    cache.remove_old_partials();
    let files = job.model_files(commit)?;
    let fetched = Fetched::new(job, files, commit, &verifications)?;
    Ok(Fetched { downloaded_bytes, notes, ..fetched })
}

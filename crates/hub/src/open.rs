//! The first step of a download: resolves the revision, lists the files, and downloads the small
//! files.

use crate::cached::{fall_back_to_cache, find_in_cache};
use crate::client::HubClient;
use crate::download::Download;
use crate::ensure::ensure;
use crate::error::HubError;
use crate::interrupt::unless_interrupted;
use crate::job::Job;
use crate::listing::ListedFile;
use crate::observer::Observer;
use crate::opened::{ListedModel, Opened};
use crate::resolve::resolve;
use crate::retry::with_retries;
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::source::{FetchOptions, ModelSource};
use modelgate_model::layout::CONFIG;
use std::sync::Arc;

/// Resolves the revision of `source`, lists its files, and downloads the small ones.
///
/// If the settings are offline, or the hub does not answer the request for the commit or the listing,
/// the model is read only from the cache. In this case the weights are verified here, because nothing
/// is downloaded later. If the listing is known, exactly the listed files are required.
///
/// # Errors
/// The model does not exist, the hub cannot be reached and the cache is not complete, a file cannot
/// be downloaded, verified or written, or a signal ended the run.
pub fn open(
    settings: Arc<Settings>,
    source: ModelSource,
    options: FetchOptions,
    observer: Arc<dyn Observer>,
) -> Result<Opened, HubError> {
    let job = Arc::new(Job::new(settings, source, options, observer));
    let revision = job.source.revision.as_str();
    if job.settings.offline {
        let fetched = find_in_cache(&job, revision)?;
        return Ok(Opened::cached(job, fetched));
    }
    let client = match HubClient::new(Arc::clone(&job.settings)) {
        Ok(client) => client,
        Err(error) => {
            let fetched = fall_back_to_cache(&job, error, revision)?;
            return Ok(Opened::cached(job, fetched));
        }
    };
    let runtime = Runtime::start()?;
    let observer = &*job.observer;
    let commit = match runtime.block_on(unless_interrupted(observer, resolve(&client, &job))) {
        Ok(commit) => commit,
        Err(error) => {
            let fetched = fall_back_to_cache(&job, error, revision)?;
            return Ok(Opened::cached(job, fetched));
        }
    };
    let listing = list(&client, &job, &commit);
    let listing = match runtime.block_on(unless_interrupted(observer, listing)) {
        Ok(listing) => listing,
        Err(error) => {
            let fetched = fall_back_to_cache(&job, error, &commit)?;
            return Ok(Opened::cached(job, fetched));
        }
    };
    let needed = job.needed_files(&listing, &commit)?;
    let config = job.source.file.is_none().then(|| job.cache.snapshot(&commit).join(CONFIG));
    let download = Arc::new(Download::new(client, Arc::clone(&job), commit));
    let mut notes = Vec::new();
    let small = ensure(&download, &needed.small, &mut notes);
    let verifications = runtime.block_on(unless_interrupted(observer, small))?;
    let weights = needed.weights;
    let model = ListedModel { runtime, download, listing, weights, config, verifications, notes };
    Ok(Opened::listed(job, model))
}

/// Returns the files of a commit, from the listing that an earlier run stored or from the hub.
async fn list(client: &HubClient, job: &Job, commit: &str) -> Result<Vec<ListedFile>, HubError> {
    match job.cache.listing(commit) {
        Some(listing) => Ok(listing),
        None => {
            let context = job.context(commit);
            with_retries(&job.settings, || client.listing(&context)).await
        }
    }
}

//! The first step of a fetch: the commit of the revision, its files, and the small ones among them.

use crate::cached::{find_in_cache, find_instead};
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

/// Resolves the revision of `source`, lists its files, and fetches the small ones.
///
/// If the settings are offline, or the hub cannot be reached before its listing is known, the model
/// comes from the cache alone; as nothing is downloaded then, its weights are already verified here.
/// After the listing is known, no other files will do.
///
/// # Errors
/// There is no such model, the hub cannot be reached and the cache lacks something, a file cannot be
/// fetched, verified or written, or a signal ended the run.
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
    let client = HubClient::new(Arc::clone(&job.settings))?;
    let runtime = Runtime::start()?;
    let observer = &*job.observer;
    let commit = match runtime.block_on(unless_interrupted(observer, resolve(&client, &job))) {
        Ok(commit) => commit,
        Err(error) => {
            let fetched = find_instead(&job, error, revision)?;
            return Ok(Opened::cached(job, fetched));
        }
    };
    let listing = list(&client, &job, &commit);
    let listing = match runtime.block_on(unless_interrupted(observer, listing)) {
        Ok(listing) => listing,
        Err(error) => {
            let fetched = find_instead(&job, error, &commit)?;
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

/// Returns the files of a commit, as the hub lists them now or did in an earlier run.
async fn list(client: &HubClient, job: &Job, commit: &str) -> Result<Vec<ListedFile>, HubError> {
    match job.cache.listing(commit) {
        Some(listing) => Ok(listing),
        None => {
            let context = job.context(commit);
            with_retries(&job.settings, || client.listing(&context)).await
        }
    }
}

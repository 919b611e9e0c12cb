//! A repository of a Hugging Face hub: its commit, the files that are needed of it, and those files
//! in the shared cache, verified.
//!
//! The list of files with sizes and hashes comes first; then the small ones, by which a model that
//! could not be loaded is refused; then the weights. Without a network the cache alone has to do.

mod bring;
mod cache;
mod cached;
mod client;
mod disk;
mod fault;
mod fetch;
mod listing;
mod select;
mod settings;
mod token;

pub use settings::Settings;

use super::local;
use super::{Acquired, Context, Origin};
use crate::known;
use crate::manifest::nearest;
use crate::progress;
use crate::signal::{self, Interrupt};
use cache::Cache;
use client::{Hub, patiently};
use fault::Asked;
use fetch::Fetch;
use listing::Listed;
use modelgate_protocol::{Failure, FailureKind, ModelFiles, Stage, Verified};
use select::{Needed, Weights};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long fetches that are given up may take to end.
const GIVING_UP: Duration = Duration::from_secs(1);
/// How often signals are looked for and progress is shown.
const TICK: Duration = Duration::from_millis(50);

/// What is known of files by their paths in the repository: how they were verified, and SHA-256.
type Known = BTreeMap<String, (Verified, Option<String>)>;

/// A model of a hub.
pub(super) struct Repository<'a> {
    /// For people.
    pub(super) title: String,
    /// Its id in the manifest.
    pub(super) model: &'a str,
    pub(super) repo: &'a str,
    pub(super) revision: &'a str,
    pub(super) file: Option<&'a str>,
    /// The longest without progress.
    pub(super) stall: Duration,
}

impl Origin for Repository<'_> {
    fn acquire(&self, context: &Context<'_>) -> Result<Acquired, Failure> {
        let settings = Arc::new(Settings::of(&context.environment.variables)?);
        let cache = Cache::of(&settings.cache, self.repo);
        if settings.offline {
            return self.cached(&settings, &cache, self.revision, context);
        }
        let hub = Hub::new(Arc::clone(&settings))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(bring::AT_ONCE)
            .enable_all()
            .build()
            .map_err(|error| internal(&format!("no threads to fetch with: {error}")))?;
        let interrupt = context.interrupt;
        let commit = match attend(&runtime, interrupt, self.resolve(&hub, &settings)) {
            Ok(commit) => commit,
            Err(failure) => {
                return self.instead(failure, &settings, &cache, self.revision, context);
            }
        };
        let listing = self.listing(&hub, &commit, &settings, &cache);
        let listing = match attend(&runtime, interrupt, listing) {
            Ok(listing) => listing,
            Err(failure) => return self.instead(failure, &settings, &cache, &commit, context),
        };
        // from here on it is known what there has to be, and nothing else will do
        let fetch = self.fetch(hub, &commit, &listing, &settings, &cache, context);
        let fetched = attend(&runtime, interrupt, fetch);
        // fetches that were given up let go of their locks
        runtime.shutdown_timeout(GIVING_UP);
        fetched
    }
}

/// What `work` gives, unless a signal comes.
fn attend<T>(
    runtime: &tokio::runtime::Runtime,
    interrupt: &Interrupt,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    runtime.block_on(async {
        tokio::select! {
            result = work => result,
            interruption = interrupted(interrupt) => Err(interruption),
        }
    })
}

/// Whether the hub could not be asked, which another time it may.
fn is_unreachable(kind: FailureKind) -> bool {
    use FailureKind::{Connect, NameResolution, RateLimited, ServerError, Timeout};
    matches!(kind, Connect | NameResolution | RateLimited | ServerError | Timeout)
}

impl Repository<'_> {
    fn asked<'b>(&'b self, settings: &'b Settings, revision: &'b str) -> Asked<'b> {
        Asked { repo: self.repo, revision, file: None, settings }
    }

    /// The files of `revision` from the cache, where a hub that cannot be asked left us with `failure`:
    /// it may be gone for a while, and what was fetched before is as good as it was.
    fn instead(
        &self,
        failure: Failure,
        settings: &Settings,
        cache: &Cache,
        revision: &str,
        context: &Context<'_>,
    ) -> Result<Acquired, Failure> {
        if !is_unreachable(failure.kind) {
            return Err(failure);
        }
        match self.cached(settings, cache, revision, context) {
            Err(lacking) if lacking.kind == FailureKind::Offline => Err(failure),
            Err(other) => Err(other),
            Ok(mut acquired) => {
                let commit = acquired.commit.as_deref().unwrap_or_default();
                let note = format!(
                    "the hub could not be asked ({failure}); the cache has commit {commit} for \
                     revision {}, which is used",
                    self.revision
                );
                progress::note(&self.title, &note);
                acquired.notes.push(note);
                Ok(acquired)
            }
        }
    }

    /// The files that `commit` has, as the hub lists them or did before.
    async fn listing(
        &self,
        hub: &Hub,
        commit: &str,
        settings: &Settings,
        cache: &Cache,
    ) -> Result<Vec<Listed>, Failure> {
        let asked = self.asked(settings, commit);
        match cache.listing(commit) {
            Some(listing) => Ok(listing),
            None => patiently(settings, || hub.listing(&asked)).await,
        }
    }

    /// The files of `commit` that are needed of `listing`, with what the cache lacks fetched from the
    /// hub.
    async fn fetch(
        &self,
        hub: Hub,
        commit: &str,
        listing: &[Listed],
        settings: &Arc<Settings>,
        cache: &Cache,
        context: &Context<'_>,
    ) -> Result<Acquired, Failure> {
        let asked = self.asked(settings, commit);
        let needed = self.needed(listing, &asked)?;
        let fetch = Arc::new(Fetch {
            hub,
            settings: Arc::clone(settings),
            cache: cache.clone(),
            repo: self.repo.to_owned(),
            commit: commit.to_owned(),
            stall: self.stall,
            range: fetch::RANGE,
            done: AtomicU64::new(0),
            downloaded: AtomicU64::new(0),
        });
        let mut notes = Vec::new();
        let mut known = self.bring(&needed.small, &fetch, context, &mut notes).await?;
        let config = cache.snapshot(commit).join(local::CONFIG);
        if self.file.is_none() {
            (context.admit)(&config)?;
        }
        let weights = weights(needed.weights, listing, &cache.snapshot(commit), &asked)?;
        known.extend(self.bring(&weights, &fetch, context, &mut notes).await?);
        let downloaded = fetch.downloaded.load(Ordering::Relaxed);
        if !cache::is_commit(self.revision)
            && let Err(error) = cache.set_commit(self.revision, commit)
            // a cache that holds all of it need not be one that can be written
            && downloaded > 0
        {
            return Err(disk::failure(&asked, cache.root(), &error));
        }
        cache.keep_listing(commit, listing);
        cache.remove_old_partials();
        let files = self.files(cache, commit)?;
        acquired(files, &cache.snapshot(commit), commit, &known, downloaded, notes)
    }

    /// The commit that the revision is; a commit's full name needs no asking.
    async fn resolve(&self, hub: &Hub, settings: &Settings) -> Result<String, Failure> {
        if cache::is_commit(self.revision) {
            return Ok(self.revision.to_owned());
        }
        let asked = self.asked(settings, self.revision);
        let resolved = patiently(settings, || hub.commit(&asked)).await;
        match resolved {
            Err(mut failure)
                if matches!(
                    failure.kind,
                    FailureKind::RepositoryNotFound | FailureKind::NoToken
                ) =>
            {
                if let Some(near) = self.near(hub, &asked).await {
                    failure.hint = format!("is {near} meant? Else {}", failure.hint);
                }
                Err(failure)
            }
            result => result,
        }
    }

    /// A repository that may be meant.
    async fn near(&self, hub: &Hub, asked: &Asked<'_>) -> Option<String> {
        if let Some(known) = known::meant(self.repo) {
            return Some(known.to_owned());
        }
        let (owner, name) = self.repo.split_once('/')?;
        let all = hub.repositories(asked, owner).await;
        let names = all.iter().filter_map(|repo| repo.split_once('/').map(|(_, name)| name));
        let near = nearest(name, names.filter(|other| *other != name))?;
        Some(format!("{owner}/{near}"))
    }

    /// The files of `listing` that this model needs.
    fn needed<'b>(&self, listing: &'b [Listed], asked: &Asked<'_>) -> Result<Needed<'b>, Failure> {
        select::needed(listing, self.file)
            .map_err(|lacking| asked.failure(lacking.kind, &lacking.what, lacking.hint))
    }

    /// The files of the commit as they lie in the cache.
    fn files(&self, cache: &Cache, commit: &str) -> Result<ModelFiles, Failure> {
        let snapshot = cache.snapshot(commit);
        local::files(&self.file.map_or_else(|| snapshot.clone(), |file| snapshot.join(file)))
    }
}

/// The listed files of the weights; those that an index names are read off it in `snapshot`, the
/// commit's folder.
fn weights<'b>(
    weights: Weights<'b>,
    listing: &'b [Listed],
    snapshot: &Path,
    asked: &Asked<'_>,
) -> Result<Vec<&'b Listed>, Failure> {
    let index = match weights {
        Weights::Files(files) => return Ok(files),
        Weights::Index(index) => snapshot.join(&index.path),
    };
    let find = |(name, tensor): (&String, &String)| {
        listing.iter().find(|file| file.path == *name).ok_or_else(|| {
            asked.failure(
                FailureKind::FileNotFound,
                &format!(
                    "{} places {tensor} in {name}, which the repository has not",
                    local::INDEX
                ),
                "the repository is not whole: try another revision, or tell its owner",
            )
        })
    };
    local::indexed(&index)?.iter().map(find).collect()
}

/// The files in `snapshot`, which is the commit's folder.
fn acquired(
    files: ModelFiles,
    snapshot: &Path,
    commit: &str,
    known: &Known,
    downloaded_bytes: u64,
    notes: Vec<String>,
) -> Result<Acquired, Failure> {
    let of = |file: &PathBuf| {
        let name = file.strip_prefix(snapshot).ok()?.to_str()?;
        Some((file.clone(), known.get(name)?.clone()))
    };
    let by_path = files.weights.iter().filter_map(of).collect();
    let seen = super::seen(&files, &by_path)?;
    Ok(Acquired { files, seen, commit: Some(commit.to_owned()), downloaded_bytes, notes })
}

async fn interrupted(interrupt: &Interrupt) -> Failure {
    loop {
        if let Some(signal) = interrupt.signal() {
            return interruption(signal);
        }
        tokio::time::sleep(TICK).await;
    }
}

fn interruption(signal: i32) -> Failure {
    Failure::new(
        Stage::Acquire,
        FailureKind::Interrupted,
        format!("{} ended the run while files were fetched or verified", signal::name(signal)),
        "start the run again: what was fetched is kept",
    )
}

fn internal(what: &str) -> Failure {
    Failure::new(Stage::Acquire, FailureKind::Internal, what, "a defect of modelgate: tell it")
}

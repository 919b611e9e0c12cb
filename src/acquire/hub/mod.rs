//! A repository of a Hugging Face hub: its commit, the files that are needed of it, and those files
//! in the shared cache, verified.
//!
//! The list of files with sizes and hashes comes first; then the small ones, by which a model that
//! could not be loaded is refused; then the weights. Without a network the cache alone has to do.

mod cache;
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
use crate::env;
use crate::known;
use crate::manifest::{counted, format_bytes, nearest};
use crate::progress::{self, TransferProgress};
use crate::signal::{self, Interrupt};
use cache::{Cache, Held, Identity};
use client::{Hub, patiently};
use fault::Asked;
use fetch::Fetch;
use listing::{ContentHash, Listed};
use modelgate_protocol::{Failure, FailureKind, ModelFiles, Stage, Verified};
use select::Weights;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Files that are fetched at the same time, as the Hugging Face tools do it.
const AT_ONCE: usize = 8;
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
            return self.cached(&settings, &cache, context);
        }
        match self.online(&settings, &cache, context) {
            Err(failure) if is_unreachable(failure.kind) => {
                // the hub may be gone for a while; what was fetched before is as good as it was
                let Ok(mut acquired) = self.cached(&settings, &cache, context) else {
                    return Err(failure);
                };
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
            result => result,
        }
    }
}

/// Whether the hub said nothing about the repository: another time it may.
fn is_unreachable(kind: FailureKind) -> bool {
    use FailureKind::{Connect, NameResolution, RateLimited, ServerError, Timeout};
    matches!(kind, Connect | NameResolution | RateLimited | ServerError | Timeout)
}

impl Repository<'_> {
    fn asked<'b>(&'b self, settings: &'b Settings, revision: &'b str) -> Asked<'b> {
        Asked { repo: self.repo, revision, file: None, settings }
    }

    /// The files, with what the cache lacks fetched from the hub.
    fn online(
        &self,
        settings: &Arc<Settings>,
        cache: &Cache,
        context: &Context<'_>,
    ) -> Result<Acquired, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(AT_ONCE)
            .enable_all()
            .build()
            .map_err(|error| internal(&format!("no threads to fetch with: {error}")))?;
        let result = runtime.block_on(async {
            tokio::select! {
                result = self.fetch(settings, cache, context) => result,
                interrupted = interrupted(context.interrupt) => Err(interrupted),
            }
        });
        // what still runs leaves nothing behind that a later run would trust
        runtime.shutdown_background();
        result
    }

    async fn fetch(
        &self,
        settings: &Arc<Settings>,
        cache: &Cache,
        context: &Context<'_>,
    ) -> Result<Acquired, Failure> {
        let hub = Hub::new(Arc::clone(settings))?;
        let commit = self.resolve(&hub, settings).await?;
        let asked = self.asked(settings, &commit);
        let listing = match cache.listing(&commit) {
            Some(listing) => listing,
            None => patiently(settings, || hub.listing(&asked)).await?,
        };
        let needed = select::needed(&listing, self.file)
            .map_err(|lacking| asked.failure(lacking.kind, &lacking.what, lacking.hint))?;
        let fetch = Arc::new(Fetch {
            hub,
            settings: Arc::clone(settings),
            cache: cache.clone(),
            repo: self.repo.to_owned(),
            commit: commit.clone(),
            stall: self.stall,
            done: AtomicU64::new(0),
            downloaded: AtomicU64::new(0),
        });
        let mut notes = Vec::new();
        let mut known = self.bring(&needed.small, &fetch, context, &mut notes).await?;
        let config = cache.snapshot(&commit).join(local::CONFIG);
        if self.file.is_none() {
            (context.admit)(&config)?;
        }
        let weights = match needed.weights {
            Weights::Files(files) => files,
            Weights::Index(index) => {
                let path = cache.snapshot(&commit).join(&index.path);
                self.indexed(&path, &listing, &asked)?
            }
        };
        known.extend(self.bring(&weights, &fetch, context, &mut notes).await?);
        let written = cache.set_commit(self.revision, &commit);
        if !cache::is_commit(self.revision) {
            written.map_err(|error| disk::failure(&asked, cache.root(), &error))?;
        }
        cache.keep_listing(&commit, &listing);
        cache.remove_old_partials();
        let files = self.files(cache, &commit)?;
        let downloaded = fetch.downloaded.load(Ordering::Relaxed);
        acquired(files, &cache.snapshot(&commit), commit, &known, downloaded, notes)
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
                if let Some(near) = self.near(hub).await {
                    failure.hint = format!("is {near} meant? Else {}", failure.hint);
                }
                Err(failure)
            }
            result => result,
        }
    }

    /// A repository that may be meant.
    async fn near(&self, hub: &Hub) -> Option<String> {
        if let Some(known) = known::meant(self.repo) {
            return Some(known.to_owned());
        }
        let (owner, name) = self.repo.split_once('/')?;
        let all = hub.repositories(owner).await;
        let names = all.iter().filter_map(|repo| repo.split_once('/').map(|(_, name)| name));
        let near = nearest(name, names.filter(|other| *other != name))?;
        Some(format!("{owner}/{near}"))
    }

    /// The listed files that the index at `path` names.
    fn indexed<'b>(
        &self,
        path: &Path,
        listing: &'b [Listed],
        asked: &Asked<'_>,
    ) -> Result<Vec<&'b Listed>, Failure> {
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
        local::indexed(path)?.iter().map(find).collect()
    }

    /// Makes the cache's commit have `files`.
    async fn bring(
        &self,
        files: &[&Listed],
        fetch: &Arc<Fetch>,
        context: &Context<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Known, Failure> {
        let (cache, commit) = (&fetch.cache, fetch.commit.as_str());
        let asked = self.asked(&fetch.settings, commit);
        let mut known = Known::new();
        let (mut missing, mut unlinked) = (Vec::new(), Vec::new());
        for (file, held) in self.look(files, cache, commit, context)? {
            match held {
                Held::Right { verified, sha256, linked } => {
                    known.insert(file.path.clone(), (verified, sha256));
                    if !linked {
                        unlinked.push(file);
                    }
                }
                Held::Missing => missing.push((file, None)),
                Held::Wrong { what, content } => {
                    let note =
                        format!("{} in the cache is not right ({what}): fetched again", file.path);
                    progress::note(&self.title, &note);
                    notes.push(note);
                    missing.push((file, Some(content)));
                }
            }
        }
        if missing.is_empty() && unlinked.is_empty() {
            return Ok(known);
        }
        cache.make_writable().map_err(|(path, error)| {
            let mut failure = disk::failure(&asked, &path, &error);
            failure.message += &format!("; {}", lacks(missing.iter().map(|(file, _)| *file)));
            failure
        })?;
        let link = |file: &Listed| {
            let linked = cache.link(file, commit);
            linked.map_err(|error| disk::failure(&asked, &cache.snapshot(commit), &error))
        };
        unlinked.into_iter().try_for_each(link)?;
        self.fetch_all(&missing, fetch, &asked, |file, sha256| {
            link(file)?;
            let fetched = match sha256 {
                Some(sha256) => (Verified::Now, Some(sha256)),
                // another run has fetched it, and hashed it if that was ours
                None => match cache.held(file, commit, false, &mut |_| true) {
                    Ok(Held::Right { verified, sha256, .. }) => (verified, sha256),
                    _ => (Verified::No, None),
                },
            };
            known.insert(file.path.clone(), fetched);
            Ok(())
        })
        .await?;
        Ok(known)
    }

    /// How `files` lie in the cache.
    fn look<'b>(
        &self,
        files: &[&'b Listed],
        cache: &Cache,
        commit: &str,
        context: &Context<'_>,
    ) -> Result<Vec<(&'b Listed, Held)>, Failure> {
        let all = files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
        let mut progress =
            context.verify.then(|| TransferProgress::new(&self.title, "verify", all));
        let mut done = 0;
        let mut watch = |bytes: u64| {
            done += bytes;
            if let Some(progress) = &mut progress {
                progress.at(done);
            }
            context.interrupt.signal().is_none()
        };
        let look = |file: &&'b Listed| {
            let held = cache.held(file, commit, context.verify, &mut watch);
            let held = held.map_err(|error| match context.interrupt.signal() {
                Some(signal) => interruption(signal),
                None => local::io(&cache.snapshot(commit).join(&file.path), &error),
            });
            held.map(|held| (*file, held))
        };
        files.iter().map(look).collect()
    }

    /// Fetches `missing`, several at once; `fetched` is told each with its SHA-256, which is none
    /// where somebody else fetched it meanwhile.
    async fn fetch_all(
        &self,
        missing: &[(&Listed, Option<Identity>)],
        fetch: &Arc<Fetch>,
        asked: &Asked<'_>,
        mut fetched: impl FnMut(&Listed, Option<String>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let cache = &fetch.cache;
        let there = |file: &Listed| {
            std::fs::metadata(cache.partial(&file.hash)).map_or(0, |partial| partial.len())
        };
        let all = missing.iter().map(|(file, _)| file.bytes).fold(0, u64::saturating_add);
        let begun = missing.iter().map(|(file, _)| there(file).min(file.bytes));
        let begun = begun.fold(0, u64::saturating_add);
        disk::room(asked, cache.root(), all - begun)?;
        fetch.done.store(0, Ordering::Relaxed);
        let mut progress = TransferProgress::new(&self.title, "fetch", all);
        progress.begin(
            begun,
            &format!(
                "{}, {} of it to come, into {}",
                counted(missing.len(), "file"),
                format_bytes(all - begun),
                cache.root().display()
            ),
        );
        let mut waiting = missing.iter().enumerate();
        let mut running = JoinSet::new();
        let mut start = |running: &mut JoinSet<(usize, Result<Option<String>, Failure>)>| {
            if let Some((index, (file, wrong))) = waiting.next() {
                let (fetch, file, wrong) = (Arc::clone(fetch), (*file).clone(), *wrong);
                running.spawn(async move { (index, fetch.fetch(&file, wrong).await) });
            }
        };
        (0..AT_ONCE).for_each(|_| start(&mut running));
        loop {
            tokio::select! {
                ended = running.join_next() => {
                    let Some(ended) = ended else {
                        progress.end(fetch.downloaded.load(Ordering::Relaxed));
                        return Ok(());
                    };
                    let (index, result) = ended
                        .map_err(|error| internal(&format!("a fetch ended: {error}")))?;
                    fetched(missing[index].0, result?)?;
                    start(&mut running);
                }
                () = tokio::time::sleep(TICK) => progress.at(fetch.done.load(Ordering::Relaxed)),
            }
        }
    }

    /// The files, from the cache alone.
    fn cached(
        &self,
        settings: &Settings,
        cache: &Cache,
        context: &Context<'_>,
    ) -> Result<Acquired, Failure> {
        let lacking = |what: &str| self.offline(settings, cache, what);
        let Some(commit) = cache.commit(self.revision) else {
            return Err(lacking("the cache does not know this revision"));
        };
        let asked = self.asked(settings, &commit);
        let listing = cache.listing(&commit);
        let known = match &listing {
            Some(listing) => {
                let needed = select::needed(listing, self.file)
                    .map_err(|lacking| asked.failure(lacking.kind, &lacking.what, lacking.hint))?;
                let mut known = self.right(&needed.small, cache, &commit, context, settings)?;
                let weights = match needed.weights {
                    Weights::Files(files) => files,
                    Weights::Index(index) => {
                        let path = cache.snapshot(&commit).join(&index.path);
                        self.indexed(&path, listing, &asked)?
                    }
                };
                known.extend(self.right(&weights, cache, &commit, context, settings)?);
                known
            }
            None => self.unlisted(cache, &commit, context, settings)?,
        };
        let files = self.files(cache, &commit).map_err(|failure| match failure.kind {
            FailureKind::NotFound => lacking(&failure.message),
            _ => failure,
        })?;
        context.admit(&files)?;
        acquired(files, &cache.snapshot(&commit), commit, &known, 0, Vec::new())
    }

    /// What is known of `files`, which all have to be there and right.
    fn right(
        &self,
        files: &[&Listed],
        cache: &Cache,
        commit: &str,
        context: &Context<'_>,
        settings: &Settings,
    ) -> Result<Known, Failure> {
        let mut known = Known::new();
        let mut missing = Vec::new();
        for (file, held) in self.look(files, cache, commit, context)? {
            match held {
                Held::Right { verified, sha256, linked: true } => {
                    known.insert(file.path.clone(), (verified, sha256));
                }
                Held::Right { linked: false, .. } | Held::Missing => missing.push(file),
                Held::Wrong { what, .. } => return Err(self.wrong(file, &what, settings, cache)),
            }
        }
        if missing.is_empty() {
            return Ok(known);
        }
        Err(self.offline(settings, cache, &lacks(missing.into_iter())))
    }

    /// What is known of the files of a commit that another tool has fetched: the hashes that their
    /// contents are named by, but no sizes.
    fn unlisted(
        &self,
        cache: &Cache,
        commit: &str,
        context: &Context<'_>,
        settings: &Settings,
    ) -> Result<Known, Failure> {
        let files = self.files(cache, commit).map_err(|failure| match failure.kind {
            FailureKind::NotFound => self.offline(settings, cache, &failure.message),
            _ => failure,
        })?;
        let snapshot = cache.snapshot(commit);
        let named = |path: &PathBuf| {
            let target = std::fs::read_link(path).ok()?;
            let hash = ContentHash::named(target.file_name()?.to_str()?)?;
            let bytes = std::fs::metadata(path).ok()?.len();
            let path = path.strip_prefix(&snapshot).ok()?.to_str()?.to_owned();
            Some(Listed { path, bytes, hash })
        };
        let listed: Vec<Listed> = paths(&files).filter_map(named).collect();
        let listed: Vec<&Listed> = listed.iter().collect();
        let mut known = self.right(&listed, cache, commit, context, settings)?;
        // a size that is its own says nothing
        known.retain(|_, (verified, _)| *verified != Verified::Size);
        Ok(known)
    }

    /// The files of the commit as they lie in the cache.
    fn files(&self, cache: &Cache, commit: &str) -> Result<ModelFiles, Failure> {
        let snapshot = cache.snapshot(commit);
        local::files(&self.file.map_or_else(|| snapshot.clone(), |file| snapshot.join(file)))
    }

    /// The failure for what the cache lacks where the hub is not asked.
    fn offline(&self, settings: &Settings, cache: &Cache, what: &str) -> Failure {
        let asked = self.asked(settings, self.revision);
        let why = if settings.offline {
            format!("{} forbids to ask the hub", env::OFFLINE[0])
        } else {
            "the hub could not be asked".to_owned()
        };
        let what = format!("{what}; the cache is {}, and {why}", cache.root().display());
        let meant =
            known::meant(self.repo).map_or(String::new(), |name| format!("is {name} meant? Else "));
        let hint = format!("{meant}{}", self.how_to_fetch());
        asked.failure(FailureKind::Offline, &what, hint)
    }

    fn how_to_fetch(&self) -> String {
        let file = self.file.map_or(String::new(), |file| format!(" {file}"));
        format!(
            "fetch it where there is a network: `cargo run --release -- prefetch {}`, or `hf \
             download {}{file} --revision {}`; {} names the cache that has it",
            self.model,
            self.repo,
            self.revision,
            env::HF_HOME
        )
    }

    /// The failure for a file that is wrong, and cannot be fetched again.
    fn wrong(&self, file: &Listed, what: &str, settings: &Settings, cache: &Cache) -> Failure {
        let asked = Asked { file: Some(&file.path), ..self.asked(settings, self.revision) };
        let place = cache.blob(&file.hash);
        asked.failure(
            FailureKind::Corrupt,
            &format!("the cache's file is not right: {what} ({})", place.display()),
            format!("{}; it is replaced then", self.how_to_fetch()),
        )
    }
}

/// All files among `files`.
fn paths(files: &ModelFiles) -> impl Iterator<Item = &PathBuf> {
    let small = [
        &files.index,
        &files.config,
        &files.generation_config,
        &files.tokenizer,
        &files.tokenizer_config,
        &files.chat_template,
    ];
    files.weights.iter().chain(small.into_iter().flatten())
}

/// The files in `snapshot`, which is the commit's folder.
fn acquired(
    files: ModelFiles,
    snapshot: &Path,
    commit: String,
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
    Ok(Acquired { files, seen, commit: Some(commit), downloaded_bytes, notes })
}

/// What of `files` is said to be lacking.
fn lacks<'a>(files: impl Iterator<Item = &'a Listed>) -> String {
    let files: Vec<&Listed> = files.collect();
    let names: Vec<&str> = files.iter().take(3).map(|file| file.path.as_str()).collect();
    let more = files.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let bytes = files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    format!("it lacks {}{more} ({})", names.join(", "), format_bytes(bytes))
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

//! Makes the cache have files of a commit: what is there and right stays, what is missing or wrong is
//! fetched, several files at once. Does not know which files a model needs.

use super::cache::{self, Held, Identity};
use super::fault::Asked;
use super::fetch::Fetch;
use super::listing::Listed;
use super::{Known, Repository, TICK, disk, internal, interruption};
use crate::acquire::{Context, local};
use crate::manifest::{counted, format_bytes};
use crate::progress::{self, TransferProgress};
use cache::Cache;
use modelgate_protocol::{Failure, FailureKind, Verified};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::task::JoinSet;

/// Files that are fetched at the same time, as the Hugging Face tools do it.
pub(super) const AT_ONCE: usize = 8;

impl Repository<'_> {
    /// Makes the cache's commit have `files`.
    pub(super) async fn bring(
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
            let all = missing.iter().map(|(file, _)| *file).chain(unlinked.iter().copied());
            failure.message += &format!("; {}", lacks(all));
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
                None => {
                    let mut seen = self.look(&[file], cache, commit, context)?;
                    match seen.pop() {
                        Some((_, Held::Right { verified, sha256, .. })) => (verified, sha256),
                        _ => return Err(replaced(&asked, file)),
                    }
                }
            };
            known.insert(file.path.clone(), fetched);
            Ok(())
        })
        .await?;
        Ok(known)
    }

    /// How `files` lie in the cache.
    pub(super) fn look<'b>(
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
}

/// The failure for a file that somebody else fetched while this waited, and that is not right.
fn replaced(asked: &Asked<'_>, file: &Listed) -> Failure {
    let asked = Asked { file: Some(&file.path), ..*asked };
    asked.failure(
        FailureKind::Corrupt,
        "another process has fetched it meanwhile, and it is not what the hub lists",
        "start again: it is fetched again then",
    )
}

/// What of `files` is said to be lacking.
pub(super) fn lacks<'a>(files: impl Iterator<Item = &'a Listed>) -> String {
    let files: Vec<&Listed> = files.collect();
    let names: Vec<&str> = files.iter().take(3).map(|file| file.path.as_str()).collect();
    let more = files.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let bytes = files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    format!("it lacks {}{more} ({})", names.join(", "), format_bytes(bytes))
}

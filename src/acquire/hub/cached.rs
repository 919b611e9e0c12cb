//! A model from the cache alone, where the hub may not or cannot be asked. Asks nobody, and writes
//! nothing but what it found right.

use super::bring::lacks;
use super::cache::{Cache, Held};
use super::fault::Asked;
use super::listing::{ContentHash, Listed};
use super::{Known, Repository, Settings, acquired, weights};
use crate::acquire::{Acquired, Context};
use crate::{env, known};
use modelgate_protocol::{Failure, FailureKind, ModelFiles, Verified};
use std::path::PathBuf;

impl Repository<'_> {
    /// The files, from the cache alone.
    pub(super) fn cached(
        &self,
        settings: &Settings,
        cache: &Cache,
        revision: &str,
        context: &Context<'_>,
    ) -> Result<Acquired, Failure> {
        let lacking = |what: &str| self.offline(settings, cache, what);
        let Some(commit) = cache.commit(revision) else {
            return Err(lacking("the cache does not know this revision"));
        };
        let asked = self.asked(settings, &commit);
        let listing = cache.listing(&commit);
        let known = match &listing {
            Some(listing) => {
                let needed = self.needed(listing, &asked)?;
                let mut known = self.right(&needed.small, cache, &commit, context, settings)?;
                let weights = weights(needed.weights, listing, &cache.snapshot(&commit), &asked)?;
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
        acquired(files, &cache.snapshot(&commit), &commit, &known, 0, Vec::new())
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

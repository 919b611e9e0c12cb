//! One download of a model: the source, the settings with hub and cache, and the observer.

use crate::cache::RepositoryCache;
use crate::content_hash::is_commit;
use crate::error::HubError;
use crate::listing::ListedFile;
use crate::nearest::respelled;
use crate::observer::Observer;
use crate::request_context::RequestContext;
use crate::select::{self, NeededFiles, NeededWeights};
use crate::settings::Settings;
use crate::source::{FetchOptions, ModelSource};
use modelgate_model::layout::{self, INDEX, LayoutError};
use modelgate_protocol::{FailureKind, ModelFiles};
use std::sync::Arc;

/// The shared data of all steps of a download.
pub(crate) struct Job {
    pub(crate) settings: Arc<Settings>,
    pub(crate) source: ModelSource,
    pub(crate) options: FetchOptions,
    pub(crate) observer: Arc<dyn Observer>,
    /// The repository in the cache of `settings`.
    pub(crate) cache: RepositoryCache,
}

impl Job {
    /// Creates the job from the arguments of a download.
    pub(crate) fn new(
        settings: Arc<Settings>,
        source: ModelSource,
        options: FetchOptions,
        observer: Arc<dyn Observer>,
    ) -> Job {
        let cache = RepositoryCache::new(&settings.cache, &source.repo);
        Job { settings, source, options, observer, cache }
    }

    /// Returns whether the revision is a full commit hash.
    pub(crate) fn names_commit(&self) -> bool {
        is_commit(&self.source.revision)
    }

    /// Returns the context of a request about `revision`.
    pub(crate) fn context<'a>(&'a self, revision: &'a str) -> RequestContext<'a> {
        RequestContext { repo: &self.source.repo, revision, file: None, settings: &self.settings }
    }

    /// Reports `note` to the observer, and adds it to `notes`.
    pub(crate) fn note(&self, note: String, notes: &mut Vec<String>) {
        self.observer.note(&note);
        notes.push(note);
    }

    /// Returns the known repository that differs from the source only in separators. `None` if
    /// there is none.
    pub(crate) fn known_repository(&self) -> Option<&'static str> {
        respelled(&self.source.repo, self.options.known_repositories.iter().copied())
    }

    /// Returns the files of `listing` that the model needs.
    ///
    /// # Errors
    /// The repository does not contain the model.
    pub(crate) fn needed_files(
        &self,
        listing: &[ListedFile],
        commit: &str,
    ) -> Result<NeededFiles, HubError> {
        select::select(listing, self.source.file.as_deref())
            .map_err(|error| self.context(commit).error(error.kind, &error.message, error.hint))
    }

    /// Returns the weight files. Reads the index if there is one, which must be in the cache.
    ///
    /// # Errors
    /// The index cannot be read, is invalid, or names a file that is not listed.
    pub(crate) fn weight_files(
        &self,
        weights: NeededWeights,
        listing: &[ListedFile],
        commit: &str,
    ) -> Result<Vec<ListedFile>, HubError> {
        let index = match weights {
            NeededWeights::Files(files) => return Ok(files),
            NeededWeights::Index(path) => self.cache.snapshot(commit).join(path),
        };
        let find = |(name, tensor): (&String, &String)| {
            listing.iter().find(|file| file.path == *name).cloned().ok_or_else(|| {
                self.context(commit).error(
                    FailureKind::FileNotFound,
                    &format!(
                        "{INDEX} places {tensor} in {name}, which the repository does not \
                         contain"
                    ),
                    "try another revision, or report the incomplete repository to its owner",
                )
            })
        };
        layout::indexed(&index)?.iter().map(find).collect()
    }

    /// Returns the files of the commit in the cache.
    ///
    /// # Errors
    /// A file is missing or wrong.
    pub(crate) fn model_files(&self, commit: &str) -> Result<ModelFiles, LayoutError> {
        let snapshot = self.cache.snapshot(commit);
        match &self.source.file {
            Some(file) => layout::files(&snapshot.join(file)),
            None => layout::files(&snapshot),
        }
    }
}

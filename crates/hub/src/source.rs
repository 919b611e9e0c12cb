//! Which model is fetched, and how.

use std::time::Duration;

/// A model of a hub. The fields become parts of paths and addresses; the caller has checked that they
/// stay inside the folders that they are joined to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSource {
    /// The repository, `owner/name`.
    pub repo: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// The GGUF file in the repository; `None` for the safetensors model.
    pub file: Option<String>,
}

/// How a model is fetched.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// The model's id for the prefetch command, which hints mention.
    pub model: String,
    /// The longest time without progress.
    pub stall: Duration,
    /// Hash every file, also those that an earlier run has verified.
    pub verify: bool,
    /// Names of known repositories, among which a misspelled one is looked up.
    pub known_repositories: Vec<&'static str>,
}

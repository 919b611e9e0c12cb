//! The model to download, and the options of a download.

use std::time::Duration;

/// A model on a hub. The fields become parts of paths and addresses. The caller must check that
/// they contain no `..` or other parts that leave a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSource {
    /// The repository, `owner/name`.
    pub repo: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// The path of the GGUF file in the repository. `None` for the safetensors model.
    pub file: Option<String>,
}

/// The options of a download.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// The id of the model in the manifest, for the `prefetch` command in hints.
    pub model: String,
    /// The maximum time without progress.
    pub stall: Duration,
    /// Whether all files are hashed, including those that an earlier run verified.
    pub verify: bool,
    /// The names of known repositories, which are compared with a misspelled name for the hint.
    pub known_repositories: Vec<&'static str>,
}

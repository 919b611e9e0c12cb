//! The configs of known models, embedded so that their shapes are known before a download.

use modelgate_model::{Config, ConfigError};

/// A repository of the hub with its `config.json`.
struct KnownRepository {
    repo: &'static str,
    config: &'static str,
    smaller: SmallerModel,
}

/// The next smaller model of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmallerModel {
    /// The repository, `owner/name`.
    pub repo: &'static str,
    /// The number of parameters according to its model page.
    pub parameters: u64,
}

const KNOWN: [KnownRepository; 3] = [
    KnownRepository {
        repo: "meta-llama/Llama-3.1-70B-Instruct",
        config: include_str!("../../../../fixtures/configs/llama-3.1-70b-instruct/config.json"),
        smaller: SmallerModel {
            repo: "meta-llama/Llama-3.1-8B-Instruct",
            parameters: 8_030_000_000,
        },
    },
    KnownRepository {
        repo: "Qwen/Qwen2.5-Omni-7B",
        config: include_str!("../../../../fixtures/configs/qwen2.5-omni-7b/config.json"),
        smaller: SmallerModel { repo: "Qwen/Qwen2.5-Omni-3B", parameters: 3_400_000_000 },
    },
    KnownRepository {
        repo: "mistralai/Mixtral-8x22B-Instruct-v0.1",
        config: include_str!(
            "../../../../fixtures/configs/mixtral-8x22b-instruct-v0.1/config.json"
        ),
        smaller: SmallerModel {
            repo: "mistralai/Mixtral-8x7B-Instruct-v0.1",
            parameters: 46_700_000_000,
        },
    },
];

/// Returns the repositories whose configs are embedded.
pub fn repositories() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.repo)
}

/// Returns the text of the `config.json` of `repo` (in any case). `None` if it is not embedded.
pub fn text(repo: &str) -> Option<&'static str> {
    KNOWN.iter().find(|known| known.repo.eq_ignore_ascii_case(repo)).map(|known| known.config)
}

/// Returns the next smaller model of the family of `repo` (in any case). `None` if there is none.
pub fn smaller(repo: &str) -> Option<SmallerModel> {
    KNOWN.iter().find(|known| known.repo.eq_ignore_ascii_case(repo)).map(|known| known.smaller)
}

/// Returns the config of `repo` (in any case). `None` if it is not embedded.
///
/// # Errors
/// The embedded config is not supported. This is a defect that a test excludes.
pub fn config(repo: &str) -> Option<Result<Config, ConfigError>> {
    text(repo).map(Config::from_json)
}

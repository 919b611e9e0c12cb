//! Models whose configs are embedded, so that their shapes are known before anything is fetched.

use modelgate_model::{Config, ConfigError};

/// A repository of the hub and its `config.json`.
struct Known {
    repo: &'static str,
    config: &'static str,
    smaller: Smaller,
}

/// The next smaller model of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Smaller {
    /// Its repository.
    pub repo: &'static str,
    /// Its parameters, as its page gives them.
    pub parameters: u64,
}

const KNOWN: [Known; 3] = [
    Known {
        repo: "meta-llama/Llama-3.1-70B-Instruct",
        config: include_str!("../../../../fixtures/configs/llama-3.1-70b-instruct/config.json"),
        smaller: Smaller { repo: "meta-llama/Llama-3.1-8B-Instruct", parameters: 8_030_000_000 },
    },
    Known {
        repo: "Qwen/Qwen2.5-Omni-7B",
        config: include_str!("../../../../fixtures/configs/qwen2.5-omni-7b/config.json"),
        smaller: Smaller { repo: "Qwen/Qwen2.5-Omni-3B", parameters: 3_400_000_000 },
    },
    Known {
        repo: "mistralai/Mixtral-8x22B-Instruct-v0.1",
        config: include_str!(
            "../../../../fixtures/configs/mixtral-8x22b-instruct-v0.1/config.json"
        ),
        smaller: Smaller {
            repo: "mistralai/Mixtral-8x7B-Instruct-v0.1",
            parameters: 46_700_000_000,
        },
    },
];

/// Repositories whose configs are embedded.
pub fn repositories() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.repo)
}

/// The text of the `config.json` of `repo` (in any case), where it is embedded.
pub fn text(repo: &str) -> Option<&'static str> {
    KNOWN.iter().find(|known| known.repo.eq_ignore_ascii_case(repo)).map(|known| known.config)
}

/// The next smaller model of the family that `repo` (in any case) is of.
pub fn smaller(repo: &str) -> Option<Smaller> {
    KNOWN.iter().find(|known| known.repo.eq_ignore_ascii_case(repo)).map(|known| known.smaller)
}

/// The config of `repo` (in any case), where it is embedded.
///
/// # Errors
/// The embedded config is not one that the decoder knows: a defect that a test excludes.
pub fn config(repo: &str) -> Option<Result<Config, ConfigError>> {
    text(repo).map(Config::from_json)
}

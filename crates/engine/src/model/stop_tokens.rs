//! The token ids that end an answer.

use crate::failures;
use modelgate_model::small_file::read_json;
use modelgate_model::{Config, token_ids};
use modelgate_protocol::Failure;
use serde_json::Value;
use std::path::Path;

/// The key of the stop tokens in `config.json` and `generation_config.json`.
const KEY: &str = "eos_token_id";

/// The token ids that end an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StopTokens {
    /// The ids, sorted and without duplicates.
    pub(super) ids: Vec<u32>,
    /// A remark on ids that are not used. `None` if all are used.
    pub(super) note: Option<String>,
}

/// Returns the stop tokens of the `generation_config.json` at `path`, or those of the config if there
/// is no such file. transformers reads the files in the same way: a generation config without stop
/// tokens means that no token ends an answer (`adjust_generation_fn` in `generation/utils.py`).
///
/// # Errors
/// The file cannot be read, or its `eos_token_id` contains a value that is not a token id.
pub(super) fn stop_tokens(path: Option<&Path>, config: &Config) -> Result<StopTokens, Failure> {
    let Some(path) = path else {
        return Ok(StopTokens { ids: sorted(config.stop_tokens.clone()), note: None });
    };
    let value: Value = read_json(path).map_err(|error| failures::io(path, &error))?;
    let ids = token_ids(KEY, value.get(KEY)).map_err(|what| failures::corrupt(path, what))?;
    let unused: Vec<String> =
        config.stop_tokens.iter().filter(|id| !ids.contains(id)).map(|id| id.to_string()).collect();
    let note = (!unused.is_empty()).then(|| {
        format!(
            "the stop tokens of the config ({}) are not used: generation_config.json takes \
             precedence, as in transformers",
            unused.join(", ")
        )
    });
    Ok(StopTokens { ids: sorted(ids), note })
}

fn sorted(mut ids: Vec<u32>) -> Vec<u32> {
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_config_takes_precedence_as_in_transformers() {
        // `eos_token_id` of both files, and the ids at which transformers 5.24 stops
        let cases: [(&str, Option<&str>, &[u32], bool); 8] = [
            ("497", None, &[497], false),
            ("[505, 497]", None, &[497, 505], false),
            ("497", Some("{\"eos_token_id\": 505}"), &[505], true),
            ("497", Some("{\"eos_token_id\": [505, 497]}"), &[497, 505], false),
            ("497", Some("{\"temperature\": 0.7}"), &[], true),
            ("497", Some("{\"eos_token_id\": null}"), &[], true),
            ("497", Some("{\"eos_token_id\": -1}"), &[], true),
            ("null", None, &[], false),
        ];
        for (of_config, generation_config, expected, has_note) in cases {
            let config = format!(
                "{{\"model_type\": \"llama\", \"num_hidden_layers\": 1, \"hidden_size\": 64, \
                 \"vocab_size\": 512, \"num_attention_heads\": 2, \"intermediate_size\": 64, \
                 \"max_position_embeddings\": 64, \"eos_token_id\": {of_config}}}"
            );
            let config = Config::from_json(&config).expect("a config");
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("generation_config.json");
            if let Some(text) = generation_config {
                std::fs::write(&path, text).expect("written");
            }
            let path = generation_config.map(|_| path.as_path());
            let found = stop_tokens(path, &config).expect("stop tokens");
            assert_eq!(found.ids, expected, "{of_config} {generation_config:?}");
            assert_eq!(found.note.is_some(), has_note, "{found:?}");
        }
    }
}

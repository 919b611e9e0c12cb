//! The token ids that end an answer.

use crate::failures;
use modelgate_model::small_file::read_json;
use modelgate_model::{Config, token_ids};
use modelgate_protocol::Failure;
use serde_json::Value;
use std::path::Path;

/// Returns the stop tokens of the config and, if `path` is given, of that `generation_config.json`,
/// sorted and without duplicates.
///
/// # Errors
/// The file cannot be read, or its `eos_token_id` contains a value that is not a token id.
pub(super) fn stop_tokens(path: Option<&Path>, config: &Config) -> Result<Vec<u32>, Failure> {
    let mut tokens = config.stop_tokens.clone();
    if let Some(path) = path {
        let value: Value = read_json(path).map_err(|error| failures::io(path, &error))?;
        let key = "eos_token_id";
        let ids = token_ids(key, value.get(key)).map_err(|what| failures::corrupt(path, what))?;
        tokens.extend(ids);
    }
    tokens.sort_unstable();
    tokens.dedup();
    Ok(tokens)
}

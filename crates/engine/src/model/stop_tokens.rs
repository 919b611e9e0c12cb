//! The token ids that end an answer.

use crate::failures;
use modelgate_model::Config;
use modelgate_model::small_file::read_json;
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
        let ids = match &value["eos_token_id"] {
            Value::Null => Vec::new(),
            Value::Array(ids) => ids.clone(),
            id => vec![id.clone()],
        };
        for id in ids {
            let token = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let invalid = || {
                failures::corrupt(path, format!("`eos_token_id`: expected token IDs, found {id}"))
            };
            tokens.push(token.ok_or_else(invalid)?);
        }
    }
    tokens.sort_unstable();
    tokens.dedup();
    Ok(tokens)
}

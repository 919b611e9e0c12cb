//! Reads the `tokenizer.json` of a model, and checks properties that the tokenizers library does
//! not check.

use crate::failures;
use crate::formats::EmbeddedText;
use modelgate_model::small_file::read_json;
use modelgate_protocol::{Failure, ModelFiles, Stage};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Returns the content of a `tokenizer.json`, and the path of the file that contains it. If the
/// model has no such file, the content is converted from the weight files (`embedded`).
///
/// # Errors
/// The file cannot be read, is not JSON, or there is no tokenizer.
pub(super) fn read(
    files: &ModelFiles,
    embedded: Option<&dyn EmbeddedText>,
) -> Result<(Value, PathBuf), Failure> {
    if let Some(path) = &files.tokenizer {
        let json = read_json(path).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => failures::tokenizer(
                Stage::Load,
                format!("{}: {error}", path.display()),
                failures::content_hint(&error),
            ),
            _ => failures::io(path, &error),
        })?;
        return Ok((json, path.clone()));
    }
    if let Some(embedded) = embedded
        && let Some(json) = embedded.tokenizer()?
    {
        return Ok((json, embedded.path().to_owned()));
    }
    Err(failures::tokenizer(
        Stage::Load,
        format!("{}: no tokenizer.json", files.root.display()),
        "put the tokenizer.json of the original repository next to the weights",
    ))
}

/// Refuses a normalizer with a map of sentencepiece. The library allocates the length in the map,
/// up to gigabytes, without a check. No tokenizer of the supported families has such a map.
pub(super) fn refuse_map(normalizer: &Value) -> Result<(), String> {
    if normalizer.get("precompiled_charsmap").is_some() {
        return Err("a normalizer of type Precompiled is not supported".into());
    }
    let steps = normalizer.get("normalizers").and_then(Value::as_array);
    steps.into_iter().flatten().try_for_each(refuse_map)
}

/// Returns the added tokens with the ids that their entries state.
pub(super) fn stated_ids(json: &Value) -> Vec<(String, u64)> {
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let stated = added.filter_map(|token| {
        let content = token["content"].as_str().filter(|content| !content.is_empty())?;
        Some((content.to_owned(), token["id"].as_u64()?))
    });
    stated.collect()
}

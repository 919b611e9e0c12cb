//! Finds the chat template of a model.

use crate::failures;
use crate::formats::EmbeddedText;
use modelgate_model::small_file::{read_json, read_text};
use modelgate_protocol::{Failure, ModelFiles, Stage};
use std::path::Path;

/// The maximum length of a template in bytes. Templates of the supported families have up to 5 KB.
/// The time of minijinja's compiler grows with the square of the longest chain such as `a ~ a ~ a`:
/// a chain of this length takes a second, and a chain of six times this length takes a minute.
pub(super) const MAX_TEMPLATE_BYTES: usize = 32 << 10;

/// The name of the template for chats in a list of named templates.
const CHAT_TEMPLATE_NAME: &str = "default";

/// Returns the text of the template and the path of its file. Searches the files of the model
/// first, then the text in the weight files (`embedded`). `config` is the content of
/// `tokenizer_config.json`.
///
/// # Errors
/// A file cannot be read, or there is no template.
pub(super) fn find(
    files: &ModelFiles,
    config: &serde_json::Value,
    embedded: Option<&dyn EmbeddedText>,
) -> Result<(String, String), Failure> {
    let mut searched = Vec::new();
    if let Some(path) = &files.chat_template {
        let name = path.display().to_string();
        if path.extension().is_some_and(|extension| extension == "json") {
            if let Some(text) = template_in(&parsed(path)?) {
                return Ok((text, name));
            }
        } else {
            let text = read_text(path, MAX_TEMPLATE_BYTES as u64);
            let text = text.map_err(|error| unreadable(path, &error))?;
            return Ok((text, name));
        }
        searched.push(name);
    }
    if let Some(path) = &files.tokenizer_config {
        let name = path.display().to_string();
        if let Some(text) = template_in(config) {
            return Ok((text, name));
        }
        searched.push(name);
    }
    if let Some(embedded) = embedded {
        let name = embedded.path().display().to_string();
        if let Some(text) = embedded.chat_template() {
            return Ok((text.to_owned(), name));
        }
        searched.push(name);
    }
    let searched = match searched.as_slice() {
        [] => format!(
            "{}: no chat_template.jinja, chat_template.json or tokenizer_config.json",
            files.root.display()
        ),
        names => format!("no chat template in {}", names.join(", ")),
    };
    Err(failures::tokenizer(
        Stage::Generate,
        searched,
        "put the chat template of the original repository next to the weights; a base model \
         without one cannot answer questions",
    ))
}

/// Reads and parses a JSON file that may contain a template.
pub(super) fn parsed(path: &Path) -> Result<serde_json::Value, Failure> {
    read_json(path).map_err(|error| unreadable(path, &error))
}

/// Returns the value of `chat_template`, which is a text or a list of named templates. `None` if
/// there is no template for chats.
fn template_in(config: &serde_json::Value) -> Option<String> {
    let template = &config["chat_template"];
    if let Some(text) = template.as_str() {
        return Some(text.to_owned());
    }
    let named = template.as_array()?.iter().find(|entry| entry["name"] == CHAT_TEMPLATE_NAME)?;
    named["template"].as_str().map(str::to_owned)
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let message = format!("{}: {error}", path.display());
    failures::tokenizer(Stage::Generate, message, failures::DOWNLOAD_AGAIN_HINT)
}

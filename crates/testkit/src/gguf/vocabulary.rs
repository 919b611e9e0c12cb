//! The GGUF metadata of a tokenizer, converted from the files of a Hugging Face folder like
//! llama.cpp's converter does (`conversion/base.py`, `gguf-py/gguf/vocab.py`).

use candle_core::quantized::gguf_file::{Content, Value};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

// Types of tokens, numbered as in `gguf-py/gguf/constants.py`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Returns the metadata of the tokenizer and the chat template in a Hugging Face folder, with one
/// token for each of the `rows` rows of the embedding.
pub(super) fn folder_metadata(dir: &Path, rows: usize) -> Vec<(String, Value)> {
    let tokenizer = json(&dir.join("tokenizer.json")).expect("tokenizer.json");
    let config = json(&dir.join("tokenizer_config.json")).unwrap_or_default();
    let model = &tokenizer["model"];
    // Only the BPE of sentencepiece falls back to byte tokens; that of GPT-2 does not.
    let is_sentencepiece = model["byte_fallback"] == true;
    let (tokens, types) = tokens(&tokenizer, rows, is_sentencepiece);
    let ids: BTreeMap<&str, u32> =
        tokens.iter().zip(0..).map(|(token, id)| (token.as_str(), id)).collect();
    let mut list = vec![
        ("model", text(if is_sentencepiece { "llama" } else { "gpt2" })),
        ("pre", text(pre_tokenizer(&tokenizer, is_sentencepiece))),
        ("tokens", list_of(tokens.iter().map(|token| text(token)))),
        ("token_type", list_of(types.iter().map(|kind| Value::I32(*kind)))),
    ];
    if is_sentencepiece {
        // The converter takes scores from sentencepiece's `tokenizer.model`, which is missing here.
        // A sentencepiece vocabulary lists pieces in the order of their merges, so the score falls
        // with the id.
        let scores = (0..rows).map(|id| Value::F32(-(id as f32)));
        list.push(("scores", list_of(scores)));
    } else {
        let merges = model["merges"].as_array().expect("merges").iter().map(|merge| match merge {
            Json::String(merge) => text(merge),
            pair => text(&format!("{} {}", str_of(&pair[0]), str_of(&pair[1]))),
        });
        list.push(("merges", list_of(merges)));
    }
    for (name, key) in [
        ("bos_token", "bos_token_id"),
        ("eos_token", "eos_token_id"),
        ("unk_token", "unknown_token_id"),
        ("pad_token", "padding_token_id"),
    ] {
        let token = config[name].as_str().or_else(|| config[name]["content"].as_str());
        if let Some(id) = token.and_then(|token| ids.get(token)) {
            list.push((key, Value::U32(*id)));
        }
    }
    let (adds_bos, adds_eos) = added_special_tokens(&tokenizer["post_processor"]);
    list.push(("add_bos_token", Value::Bool(adds_bos)));
    list.push(("add_eos_token", Value::Bool(adds_eos)));
    let mut list: Vec<(String, Value)> =
        list.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect();
    let template = fs::read_to_string(dir.join("chat_template.jinja")).ok().or_else(|| {
        let separate = json(&dir.join("chat_template.json")).unwrap_or_default();
        let template = config["chat_template"].as_str().or(separate["chat_template"].as_str());
        template.map(str::to_owned)
    });
    list.extend(template.map(|template| ("tokenizer.chat_template".to_owned(), text(&template))));
    list
}

/// Returns the tokenizer metadata of a GGUF file, sorted by key.
pub(super) fn file_metadata(path: &Path) -> Vec<(String, Value)> {
    let mut file = fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let content = Content::read(&mut file).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut list: Vec<(String, Value)> =
        content.metadata.into_iter().filter(|(key, _)| key.starts_with("tokenizer.")).collect();
    list.sort_by(|(a, _), (b, _)| a.cmp(b));
    list
}

/// Returns the texts and the types of the tokens, both indexed by token id. Ids without a token are
/// padding tokens of type [`UNUSED`].
fn tokens(tokenizer: &Json, rows: usize, is_sentencepiece: bool) -> (Vec<String>, Vec<i32>) {
    let mut list: Vec<(String, i32)> = (0..rows).map(|id| (format!("[PAD{id}]"), UNUSED)).collect();
    for (token, id) in tokenizer["model"]["vocab"].as_object().expect("a vocabulary") {
        let byte = is_sentencepiece && token.len() == 6 && token.starts_with("<0x");
        let kind = if byte { BYTE } else { NORMAL };
        list[id.as_u64().expect("an id") as usize] = (token.clone(), kind);
    }
    for token in tokenizer["added_tokens"].as_array().expect("added tokens") {
        let content = str_of(&token["content"]);
        let looks_special = content.starts_with("<|") && content.ends_with("|>");
        let kind = if content == tokenizer["model"]["unk_token"].as_str().unwrap_or_default() {
            UNKNOWN
        } else if token["special"] == true || looks_special {
            CONTROL
        } else {
            USER_DEFINED
        };
        list[token["id"].as_u64().expect("an id") as usize] = (content.to_owned(), kind);
    }
    list.into_iter().unzip()
}

/// Returns llama.cpp's name of the pre-tokenizer. The converter identifies it by the hash of an
/// encoded text, which works for published vocabularies only; here the split pattern identifies it.
fn pre_tokenizer(tokenizer: &Json, is_sentencepiece: bool) -> &'static str {
    let pattern = tokenizer["pre_tokenizer"].to_string();
    match pattern {
        _ if is_sentencepiece => "default",
        pattern if pattern.contains(r"\\p{N}{1,3}") => "llama-bpe",
        pattern if pattern.contains(r"\\p{L}+|\\p{N}|") => "qwen2",
        _ => "gpt-2",
    }
}

/// Returns whether the post-processor adds a special token before a text, and one after it.
fn added_special_tokens(processor: &Json) -> (bool, bool) {
    let one = [processor.clone()];
    let list = processor["processors"].as_array().map_or(one.as_slice(), Vec::as_slice);
    let template = list.iter().find(|step| step["type"] == "TemplateProcessing");
    let single = template.and_then(|step| step["single"].as_array());
    let special = |item: Option<&Json>| item.is_some_and(|item| item["SpecialToken"].is_object());
    single.map_or((false, false), |items| (special(items.first()), special(items.last())))
}

fn list_of(values: impl Iterator<Item = Value>) -> Value {
    Value::Array(values.collect())
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn str_of(value: &Json) -> &str {
    value.as_str().expect("a string")
}

fn json(path: &Path) -> Option<Json> {
    let text = fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

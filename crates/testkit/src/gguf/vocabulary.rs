//! The metadata of a tokenizer, made of the files of a Hugging Face folder as llama.cpp's converter
//! makes them (`conversion/base.py`, `gguf-py/gguf/vocab.py`).

use candle_core::quantized::gguf_file::{Content, Value};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Returns the tokenizer and chat template of a folder, with as many tokens as the embedding has
/// rows.
pub(super) fn of_folder(dir: &Path, rows: usize) -> Vec<(String, Value)> {
    let tokenizer = json(&dir.join("tokenizer.json")).expect("tokenizer.json");
    let config = json(&dir.join("tokenizer_config.json")).unwrap_or_default();
    let model = &tokenizer["model"];
    // What sentencepiece's BPE has, and GPT-2's has not.
    let pieces = model["byte_fallback"] == true;
    let (tokens, types) = tokens(&tokenizer, rows, pieces);
    let ids: BTreeMap<&str, u32> =
        tokens.iter().zip(0..).map(|(token, id)| (token.as_str(), id)).collect();
    let mut list = vec![
        ("model", text(if pieces { "llama" } else { "gpt2" })),
        ("pre", text(pre_tokenizer(&tokenizer, pieces))),
        ("tokens", list_of(tokens.iter().map(|token| text(token)))),
        ("token_type", list_of(types.iter().map(|kind| Value::I32(*kind)))),
    ];
    if pieces {
        // The converter has no scores without sentencepiece's own file. A vocabulary of its kind
        // merges the pieces that come first first.
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
    let (begins, ends) = around(&tokenizer["post_processor"]);
    list.push(("add_bos_token", Value::Bool(begins)));
    list.push(("add_eos_token", Value::Bool(ends)));
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

/// Returns the tokenizer of another GGUF file.
pub(super) fn of_file(path: &Path) -> Vec<(String, Value)> {
    let mut file = fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let content = Content::read(&mut file).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut list: Vec<(String, Value)> =
        content.metadata.into_iter().filter(|(key, _)| key.starts_with("tokenizer.")).collect();
    list.sort_by(|(a, _), (b, _)| a.cmp(b));
    list
}

/// Returns every token by its id, and its type.
fn tokens(tokenizer: &Json, rows: usize, pieces: bool) -> (Vec<String>, Vec<i32>) {
    let mut list: Vec<(String, i32)> = (0..rows).map(|id| (format!("[PAD{id}]"), UNUSED)).collect();
    for (token, id) in tokenizer["model"]["vocab"].as_object().expect("a vocabulary") {
        let byte = pieces && token.len() == 6 && token.starts_with("<0x");
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

/// Returns the name of the way to split texts. The converter finds it by the tokens of a text, and
/// so knows published vocabularies only; here the pattern decides.
fn pre_tokenizer(tokenizer: &Json, pieces: bool) -> &'static str {
    let pattern = tokenizer["pre_tokenizer"].to_string();
    match pattern {
        _ if pieces => "default",
        pattern if pattern.contains(r"\\p{N}{1,3}") => "llama-bpe",
        pattern if pattern.contains(r"\\p{L}+|\\p{N}|") => "qwen2",
        _ => "gpt-2",
    }
}

/// Whether a text gets a token before it, and one behind it.
fn around(processor: &Json) -> (bool, bool) {
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
    value.as_str().expect("a text")
}

fn json(path: &Path) -> Option<Json> {
    let text = fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

//! Compares the token ids of texts and chats with those of the reference tokenizers
//! (`scripts/golden/tokenization.py`): from a `tokenizer.json`, from GGUF metadata that the converter of
//! llama.cpp wrote (with the pre-tokenizer given, because it does not recognize such small tokenizers),
//! and from GGUF metadata that the testkit wrote.

#![allow(clippy::unwrap_used)]

mod common;

use common::{
    fixtures, gguf_with_vocabulary, loaded, messages, request, sha256, write_minimal_model,
};
use modelgate_engine::Model;
use modelgate_protocol::Scheme;
use modelgate_testkit::gguf::Vocabulary;
use modelgate_testkit::safetensors_edit::copy_model;
use serde_json::Value;
use std::path::PathBuf;

/// The models, each with its name in the golden data and its folder.
const MODELS: [(&str, &str); 3] =
    [("tiny-llama", "llama"), ("tiny-mixtral", "mixtral"), ("tiny-qwen2.5-omni", "qwen2.5-omni")];

/// The source of a tokenizer.
#[derive(Debug, Clone, Copy)]
enum From {
    TokenizerJson,
    LlamaCpp,
    Testkit,
}

fn folder(name: &str) -> PathBuf {
    fixtures().join("tiny").join(name)
}

fn read(path: PathBuf) -> Value {
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    serde_json::from_str(&text).unwrap()
}

fn golden(model: &str) -> Value {
    let golden = read(fixtures().join("golden/tokenization.json"));
    let list = golden["tokenizers"].as_array().unwrap();
    list.iter().find(|entry| entry["model"] == model).unwrap().clone()
}

/// Loads a minimal model with the tokenizer. Only the tokenizer is used.
fn model(name: &str, folder_name: &str, from: From) -> Model {
    let own = read(folder(folder_name).join("config.json"));
    let rows = own["vocab_size"].as_u64();
    let rows = rows.or(own["thinker_config"]["text_config"]["vocab_size"].as_u64()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write_minimal_model(dir.path(), rows, &folder(folder_name));
    let vocabulary = fixtures().join(format!("golden/llama_cpp/{name}.vocab.gguf"));
    let vocabulary = match from {
        From::TokenizerJson => return loaded(&request(dir.path(), Scheme::None)),
        From::LlamaCpp => Vocabulary::OfGguf(&vocabulary),
        From::Testkit => Vocabulary::OfSourceFolder,
    };
    loaded(&gguf_with_vocabulary(dir.path(), vocabulary))
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Returns all differences from the reference.
fn compare(model: &Model, golden: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |name: &Value, what: &str, found: Vec<u32>, expected: &Value| {
        if found != ids(expected) {
            wrong.push(format!("{name} {what}: {found:?}, expected {expected}"));
        }
    };
    for text in golden["texts"].as_array().unwrap() {
        let (name, words) = (&text["name"], text["text"].as_str().unwrap());
        same(name, "without special tokens", model.encode(words, false).unwrap(), &text["ids"]);
        if !text["special_ids"].is_null() {
            same(
                name,
                "with special tokens",
                model.encode(words, true).unwrap(),
                &text["special_ids"],
            );
        }
    }
    for chat in golden["chats"].as_array().unwrap() {
        let name = &chat["name"];
        match (model.render(&messages(chat).unwrap()), chat["text"].as_str()) {
            (Ok(prompt), Some(text)) => {
                assert_eq!(prompt.text(), text, "{name}");
                same(name, "chat", model.encode_prompt(&prompt).unwrap(), &chat["ids"]);
            }
            (Err(failure), None) => {
                let error = chat["error"].as_str().unwrap();
                assert!(failure.message.contains(error), "{name}: {failure}");
            }
            (found, _) => panic!("{name}: {:?}", found.map(|prompt| prompt.text().to_owned())),
        }
    }
    wrong
}

#[test]
fn ids_from_every_source_match_the_reference() {
    for (name, folder_name) in MODELS {
        let golden = golden(name);
        assert!(golden["texts"].as_array().unwrap().len() >= 40);
        for from in [From::TokenizerJson, From::LlamaCpp, From::Testkit] {
            let wrong = compare(&model(name, folder_name, from), &golden);
            assert!(wrong.is_empty(), "{name} from {from:?}:\n{}", wrong.join("\n"));
        }
    }
}

#[test]
fn the_golden_data_are_sensitive_to_mistakes() {
    for (name, _) in MODELS {
        let golden = golden(name);
        // The ids of llama.cpp differ for texts that the tokenizer of Qwen2 normalizes (NFC).
        let texts = golden["texts"].as_array().unwrap().iter();
        let other = texts.filter(|text| text["ids"] != text["llama_cpp_ids"]);
        let other: Vec<&str> = other.map(|text| text["name"].as_str().unwrap()).collect();
        let expected: &[&str] = match name {
            "tiny-qwen2.5-omni" => &["accents-decomposed", "korean"],
            _ => &[],
        };
        assert_eq!(other, expected, "{name}");
        let chats = golden["chats"].as_array().unwrap();
        assert!(chats.iter().filter(|chat| chat["holds_special"] == true).count() >= 3, "{name}");
        let refused = chats.iter().filter(|chat| chat["text"].is_null()).count();
        assert_eq!(refused, usize::from(name == "tiny-mixtral"), "{name}");
    }
}

#[test]
fn the_golden_data_match_the_tokenizers() {
    for (name, folder_name) in MODELS {
        let found = sha256(&folder(folder_name).join("tokenizer.json"));
        assert_eq!(golden(name)["tokenizer_sha256"], found.as_str(), "{name}");
    }
}

#[test]
fn special_tokens_in_special_tokens_map_json_are_used_as_in_transformers() {
    let map = serde_json::json!({
        "bos_token": "<|begin_of_text|>",
        "eos_token": {"content": "<|end_of_text|>", "lstrip": false, "normalized": false}
    });
    // the keys of `tokenizer_config.json` that are removed, and the tokens that transformers 5.24
    // writes for `bos_token` and `eos_token`
    let cases: [(&[&str], bool, &[u32]); 5] = [
        (&["bos_token", "eos_token"], true, &[]),
        (&["bos_token", "eos_token", "added_tokens_decoder"], true, &[496, 497]),
        (&["added_tokens_decoder"], true, &[496, 497]),
        (&["added_tokens_decoder"], false, &[496, 505]),
        (&["bos_token", "eos_token", "added_tokens_decoder"], false, &[]),
    ];
    for (removed, has_map, expected) in cases {
        let dir = copy_model(&folder("llama"));
        let mut config = read(dir.path().join("tokenizer_config.json"));
        for key in removed {
            config.as_object_mut().unwrap().remove(*key);
        }
        config["chat_template"] = "{{ bos_token }}{{ eos_token }}".into();
        std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let path = dir.path().join("special_tokens_map.json");
        std::fs::remove_file(&path).unwrap();
        if has_map {
            std::fs::write(path, map.to_string()).unwrap();
        }
        let model = loaded(&request(dir.path(), Scheme::None));
        let prompt = model.render(&[]).unwrap();
        assert_eq!(model.encode_prompt(&prompt).unwrap(), expected, "{removed:?} {has_map}");
    }
}

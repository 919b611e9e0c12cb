//! The smallest complete model: the input that mutations and fuzzers start from. It has a few
//! kilobytes, so that most mutations hit a byte that matters.

use crate::gguf::{GgmlDType, GgufWriter, Vocabulary, uniform};
use crate::synthetic::write_safetensors;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The number of tokens in the vocabulary.
pub const TOKENS: usize = 64;

/// A text that consists of known tokens only.
pub const TEXT: &str = "ab cab abc zz";

/// The chat template.
pub const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}[{{ message['role'] | upper }}] \
    {{ message.content | trim }}{% if not loop.last %}\n{% endif %}{% endfor %}\
    {%- if add_generation_prompt %}{{ eos_token }}{% endif %}";

/// The kind of the tokenizer's vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Byte-level BPE, like the vocabularies of GPT-2 and Llama 3.
    ByteLevel,
    /// BPE of sentencepiece, like the vocabularies of Llama 2 and Mistral.
    Pieces,
}

/// Returns the content of `config.json`.
pub fn config() -> Value {
    json!({
        "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 32, "vocab_size": TOKENS,
        "hidden_act": "silu", "tie_word_embeddings": false, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "max_position_embeddings": 64, "eos_token_id": [1, 2],
        "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32
        }
    })
}

/// Returns the content of `tokenizer.json`.
pub fn tokenizer(kind: Kind) -> Value {
    let blank = if kind == Kind::ByteLevel { "\u{120}" } else { "\u{2581}" };
    let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let letters = ('a'..='z').chain('0'..='9').map(String::from);
    let merged = ["ab".to_owned(), "abc".to_owned(), format!("{blank}c"), blank.to_owned()];
    let vocab: serde_json::Map<String, Value> = special
        .into_iter()
        .chain(letters)
        .chain(merged)
        .zip(0..)
        .map(|(t, id)| (t, json!(id)))
        .collect();
    let added: Vec<Value> = ["<unk>", "<s>", "</s>"]
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true
            })
        })
        .collect();
    let merges = json!([["a", "b"], ["ab", "c"], [blank, "c"]]);
    let bytes = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false
    });
    let split = json!({
        "type": "Split", "pattern": { "Regex": "\\s?\\p{L}+|\\p{N}{1,3}|\\s+" },
        "behavior": "Isolated", "invert": false
    });
    let add_bos = json!({
        "type": "TemplateProcessing",
        "single": [
            { "SpecialToken": { "id": "<s>", "type_id": 0 } },
            { "Sequence": { "id": "A", "type_id": 0 } },
        ],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }],
        "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } },
    });
    let mut complete = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": null, "post_processor": add_bos, "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true,
            "byte_fallback": kind == Kind::Pieces, "ignore_merges": false, "vocab": vocab,
            "merges": merges,
        },
    });
    match kind {
        Kind::ByteLevel => {
            complete["pre_tokenizer"] =
                json!({ "type": "Sequence", "pretokenizers": [split, bytes] });
            complete["decoder"] = bytes;
        }
        Kind::Pieces => {
            complete["normalizer"] = json!({ "type": "Sequence", "normalizers": [
                { "type": "Prepend", "prepend": blank },
                { "type": "Replace", "pattern": { "String": " " }, "content": blank },
            ]});
            complete["decoder"] = json!({ "type": "Sequence", "decoders": [
                { "type": "Replace", "pattern": { "String": blank }, "content": " " },
                { "type": "ByteFallback" }, { "type": "Fuse" },
                { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
            ]});
        }
    }
    complete
}

/// Writes the model to `dir` as a Hugging Face folder with one weight file.
pub fn write(dir: &Path, kind: Kind) {
    write_safetensors(&config().to_string(), dir, u64::MAX, 1, &|_, _| {}).expect("written");
    let texts = [
        ("config.json", config()),
        ("tokenizer.json", tokenizer(kind)),
        ("generation_config.json", json!({ "eos_token_id": [2] })),
        (
            "tokenizer_config.json",
            json!({
                "bos_token": "<s>", "eos_token": { "content": "</s>" }, "unk_token": "<unk>",
                "chat_template": TEMPLATE,
            }),
        ),
    ];
    for (name, text) in texts {
        fs::write(dir.join(name), text.to_string()).unwrap();
    }
}

/// Converts the model in `dir` to a GGUF file with its vocabulary in the same folder, and returns
/// the path of the file.
pub fn write_gguf(dir: &Path, dtype: GgmlDType) -> PathBuf {
    let file = dir.join("smallest.gguf");
    let dtype = uniform(dtype);
    GgufWriter { vocabulary: Vocabulary::OfSourceFolder, ..GgufWriter::new(&dtype) }
        .write(dir, &file);
    file
}

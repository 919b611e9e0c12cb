//! The smallest model that has everything: what mutations and fuzzers begin with. A few kilobytes, so
//! that a mutation seldom falls where nothing depends on it.

use crate::gguf::{GgmlDType, GgufWriter, Vocabulary, uniform};
use crate::synthetic::write_safetensors;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Tokens of its vocabulary.
pub const TOKENS: usize = 64;

/// A text of letters that its tokenizer knows.
pub const TEXT: &str = "ab cab abc zz";

/// Its chat template.
pub const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}[{{ message['role'] | upper }}] \
    {{ message.content | trim }}{% if not loop.last %}\n{% endif %}{% endfor %}\
    {%- if add_generation_prompt %}{{ eos_token }}{% endif %}";

/// How the vocabulary is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Byte-level BPE, as GPT-2's and Llama 3's.
    ByteLevel,
    /// Sentencepiece's BPE, as Llama 2's and Mistral's.
    Pieces,
}

/// Returns the model's `config.json`.
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

/// Returns the model's `tokenizer.json`.
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
    let around = json!({
        "type": "TemplateProcessing",
        "single": [
            { "SpecialToken": { "id": "<s>", "type_id": 0 } },
            { "Sequence": { "id": "A", "type_id": 0 } },
        ],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }],
        "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } },
    });
    let mut whole = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": null, "post_processor": around, "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true,
            "byte_fallback": kind == Kind::Pieces, "ignore_merges": false, "vocab": vocab,
            "merges": merges,
        },
    });
    match kind {
        Kind::ByteLevel => {
            whole["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [split, bytes] });
            whole["decoder"] = bytes;
        }
        Kind::Pieces => {
            whole["normalizer"] = json!({ "type": "Sequence", "normalizers": [
                { "type": "Prepend", "prepend": blank },
                { "type": "Replace", "pattern": { "String": " " }, "content": blank },
            ]});
            whole["decoder"] = json!({ "type": "Sequence", "decoders": [
                { "type": "Replace", "pattern": { "String": blank }, "content": " " },
                { "type": "ByteFallback" }, { "type": "Fuse" },
                { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
            ]});
        }
    }
    whole
}

/// Writes the model into `dir` as a Hugging Face folder of one weight file.
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

/// Writes the model in `dir` as a GGUF file with its vocabulary to the same folder, and returns the
/// file.
pub fn write_gguf(dir: &Path, dtype: GgmlDType) -> PathBuf {
    let file = dir.join("smallest.gguf");
    let dtype = uniform(dtype);
    GgufWriter { vocabulary: Vocabulary::OfFolder, ..GgufWriter::new(&dtype) }.write(dir, &file);
    file
}

//! Tokenizers for models that receive only token ids.

use serde_json::{Map, json};

/// Returns the text of a `tokenizer.json` with `count` tokens, named `t0`, `t1` and so on.
pub fn numbered(count: usize) -> String {
    let vocab: Map<_, _> = (0..count).map(|id| (format!("t{id}"), json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null,
        "decoder": null, "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "t0" }
    })
    .to_string()
}

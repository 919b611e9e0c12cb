//! The special tokens that a template may name.

use minijinja::value::Value;

/// The names of special tokens in `tokenizer_config.json` and in templates
/// (`SPECIAL_TOKENS_ATTRIBUTES` of transformers).
const SPECIAL: [&str; 8] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
    ADDITIONAL,
];

/// The name whose value is a list.
const ADDITIONAL: &str = "additional_special_tokens";

/// Returns the special tokens that the config names, as a text or with flags.
pub(super) fn special_tokens(config: &serde_json::Value) -> Value {
    let text = |token: &serde_json::Value| {
        token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
    };
    let named = |name: &'static str| {
        let value = match &config[name] {
            serde_json::Value::Array(list) if name == ADDITIONAL => {
                list.iter().filter_map(text).collect()
            }
            token => Value::from(text(token)?),
        };
        Some((name, value))
    };
    Value::from_pairs(SPECIAL.into_iter().filter_map(named))
}

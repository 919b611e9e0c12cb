//! The special tokens that a template can use as variables.

use minijinja::value::Value;

/// The variables for special tokens in templates, which are also their keys in
/// `tokenizer_config.json` (`SPECIAL_TOKENS_ATTRIBUTES` of transformers).
const VARIABLES: [&str; 8] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
    ADDITIONAL_TOKENS,
];

/// The variable whose value is a list.
const ADDITIONAL_TOKENS: &str = "additional_special_tokens";

/// Returns the special tokens of a `tokenizer_config.json` by variable. The value in the config is
/// a text, or an object with the text as `content`.
pub(super) fn special_tokens(config: &serde_json::Value) -> Value {
    let text = |token: &serde_json::Value| {
        token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
    };
    let named = |name: &'static str| {
        let value = match &config[name] {
            serde_json::Value::Array(list) if name == ADDITIONAL_TOKENS => {
                list.iter().filter_map(text).collect()
            }
            token => Value::from(text(token)?),
        };
        Some((name, value))
    };
    Value::from_pairs(VARIABLES.into_iter().filter_map(named))
}

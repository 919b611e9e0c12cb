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

/// Returns the content of a `tokenizer_config.json` with the special tokens of a
/// `special_tokens_map.json`. As in transformers (`_from_pretrained` in
/// `tokenization_utils_base.py`), they replace the tokens in the config, unless the config has
/// `added_tokens_decoder`, which newer versions write.
pub(super) fn with_special_tokens_map(
    config: serde_json::Value,
    map: serde_json::Value,
) -> serde_json::Value {
    match (config, map) {
        (serde_json::Value::Object(config), _) if config.contains_key("added_tokens_decoder") => {
            config.into()
        }
        (serde_json::Value::Object(mut config), serde_json::Value::Object(map)) => {
            config.extend(map);
            config.into()
        }
        (serde_json::Value::Null, map) => map,
        (config, _) => config,
    }
}

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

//! The GGUF metadata that describe a model, with the keys of llama.cpp
//! (`gguf-py/gguf/constants.py`).

use candle_core::quantized::gguf_file::Value;
use modelgate_model::{Config, Family};
use serde_json::Value as Json;

/// Returns the name of the architecture in llama.cpp.
fn architecture(config: &Config) -> &'static str {
    match config.family {
        Family::Llama | Family::Mixtral => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen25Omni => "qwen2vl",
    }
}

/// Returns the metadata that the converter writes for the model. `json` is the text of its
/// `config.json`.
pub(super) fn model_metadata(config: &Config, json: &str) -> Vec<(String, Value)> {
    let json: Json = serde_json::from_str(json).expect("a config in JSON");
    let text = json.pointer("/thinker_config/text_config").unwrap_or(&json);
    let number = |value: usize| Value::U32(u32::try_from(value).expect("a size below 2^32"));
    let architecture = architecture(config);
    let mut list = vec![
        ("block_count", number(config.layers)),
        ("context_length", number(config.max_positions)),
        ("embedding_length", number(config.hidden)),
        ("feed_forward_length", number(config.ffn)),
        ("attention.head_count", number(config.heads)),
        ("attention.head_count_kv", number(config.kv_heads)),
        ("attention.layer_norm_rms_epsilon", Value::F32(config.norm_eps as f32)),
        ("rope.freq_base", Value::F32(config.rope.theta as f32)),
    ];
    if text["head_dim"].is_u64() {
        list.push(("attention.key_length", number(config.head_dim)));
        list.push(("attention.value_length", number(config.head_dim)));
    }
    if architecture == "llama" {
        list.push(("rope.dimension_count", number(config.head_dim)));
        list.push(("vocab_size", number(config.vocab)));
    }
    if let Some(experts) = config.experts {
        list.push(("expert_count", number(experts.count)));
        list.push(("expert_used_count", number(experts.per_token)));
    }
    let sections = text["rope_scaling"]["mrope_section"]
        .as_array()
        .or(text["rope_parameters"]["mrope_section"].as_array());
    if let Some(sections) = sections {
        let sections = sections.iter().map(|section| section.as_i64().expect("a number") as i32);
        let four = sections.chain(std::iter::repeat(0)).take(4).map(Value::I32).collect();
        list.push(("rope.dimension_sections", Value::Array(four)));
    }
    let general = [
        ("general.architecture".to_owned(), Value::String(architecture.into())),
        ("general.name".to_owned(), Value::String("a test model".into())),
    ];
    let model = list.into_iter().map(|(key, value)| (format!("{architecture}.{key}"), value));
    general.into_iter().chain(model).collect()
}

/// Returns the metadata of a file without a tokenizer: the model and the id of the first stop
/// token. `json` is the text of its `config.json`.
pub(crate) fn metadata_without_tokenizer(config: &Config, json: &str) -> Vec<(String, Value)> {
    let stop = config.stop_tokens.first();
    let stop = stop.map(|stop| ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(*stop)));
    model_metadata(config, json).into_iter().chain(stop).collect()
}

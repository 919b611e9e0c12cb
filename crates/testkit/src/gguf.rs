//! A GGUF file of a Llama model, made from a safetensors folder the way llama.cpp's
//! `convert_hf_to_gguf.py` makes it: its names, its metadata, and rows of q and k permuted for
//! interleaved RoPE.

use crate::safetensors_edit::read_model;
pub use candle_core::quantized::GgmlDType;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::{Device, Tensor};
use modelgate_model::{Config, RopeScaling};
use std::fs;
use std::path::Path;

/// Writes the model in `source` as one GGUF file; `dtype` gives each tensor its type from its GGUF
/// name and its shape. Norms and other vectors must be given a float type.
pub fn write_from_safetensors(
    source: &Path,
    target: &Path,
    dtype: &dyn Fn(&str, &[usize]) -> GgmlDType,
) {
    let config = fs::read_to_string(source.join("config.json")).expect("config.json");
    let config = Config::from_json(&config).expect("a config of a known model");
    let mut tensors: Vec<(String, QTensor)> = Vec::new();
    for (name, raw) in read_model(source) {
        let Some(gguf_name) = gguf_name(&name) else { panic!("no GGUF name for {name}") };
        let values = permuted(&config, &name, &raw.shape, raw.to_f32());
        let dtype = dtype(&gguf_name, &raw.shape);
        tensors.push((gguf_name, quantized(values, &raw.shape, dtype)));
    }
    if let Some(scaling) = config.rope.scaling {
        let factors = rope_factors(&config, scaling);
        let shape = [factors.len()];
        tensors.push(("rope_freqs.weight".into(), quantized(factors, &shape, GgmlDType::F32)));
    }
    let metadata = metadata(&config);
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let mut file = fs::File::create(target).unwrap_or_else(|e| panic!("{target:?}: {e}"));
    gguf_file::write(&mut file, &metadata, &tensors).expect("a GGUF file");
}

/// A dtype function: `matrix` for matrices whose rows its block divides, f32 for all else.
pub fn uniform(matrix: GgmlDType) -> impl Fn(&str, &[usize]) -> GgmlDType {
    move |_, shape| match shape {
        [_, columns] if columns.is_multiple_of(matrix.block_size()) => matrix,
        _ => GgmlDType::F32,
    }
}

/// llama.cpp's name for a tensor of a Hugging Face checkpoint of the Llama family.
pub fn gguf_name(name: &str) -> Option<String> {
    match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".into()),
        "model.norm.weight" => return Some("output_norm.weight".into()),
        "lm_head.weight" => return Some("output.weight".into()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (stem, kind) = rest.rsplit_once('.')?;
    let stem = match stem {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{stem}.{kind}"))
}

fn quantized(values: Vec<f32>, shape: &[usize], dtype: GgmlDType) -> QTensor {
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).expect("shape and values agree");
    QTensor::quantize(&tensor, dtype).unwrap_or_else(|e| panic!("{shape:?} as {dtype:?}: {e}"))
}

/// Rows of q and k so that the pair (i, i + half) of each head becomes (2 i, 2 i + 1).
fn permuted(config: &Config, name: &str, shape: &[usize], values: Vec<f32>) -> Vec<f32> {
    let heads = match name.rsplit('.').nth(1) {
        Some("q_proj") => config.heads,
        Some("k_proj") => config.kv_heads,
        _ => return values,
    };
    let (rows, columns) = (shape[0], values.len() / shape[0]);
    let head = rows / heads;
    let mut out = vec![0.0; values.len()];
    for row in 0..rows {
        let (first, within) = (row / head * head, row % head);
        let source = first + within / 2 + (within % 2) * (head / 2);
        out[row * columns..][..columns].copy_from_slice(&values[source * columns..][..columns]);
    }
    out
}

/// What each of RoPE's frequencies is divided by, as llama.cpp's converter works it out.
fn rope_factors(config: &Config, scaling: RopeScaling) -> Vec<f32> {
    let low = scaling.original_context / scaling.low_freq_factor;
    let high = scaling.original_context / scaling.high_freq_factor;
    let factor = |pair: usize| {
        let exponent = 2.0 * pair as f64 / config.head_dim as f64;
        let wavelength = std::f64::consts::TAU * config.rope.theta.powf(exponent);
        if wavelength < high {
            1.0
        } else if wavelength > low {
            scaling.factor
        } else {
            let smooth = (scaling.original_context / wavelength - scaling.low_freq_factor)
                / (scaling.high_freq_factor - scaling.low_freq_factor);
            1.0 / ((1.0 - smooth) / scaling.factor + smooth)
        }
    };
    (0..config.head_dim / 2).map(|pair| factor(pair) as f32).collect()
}

fn metadata(config: &Config) -> Vec<(String, Value)> {
    let number = |value: usize| Value::U32(u32::try_from(value).expect("a size below 2^32"));
    let mut list: Vec<(String, Value)> = vec![
        ("general.architecture".into(), Value::String("llama".into())),
        ("general.name".into(), Value::String("a test model".into())),
    ];
    for (key, value) in [
        ("block_count", number(config.layers)),
        ("context_length", number(config.max_positions)),
        ("embedding_length", number(config.hidden)),
        ("feed_forward_length", number(config.ffn)),
        ("attention.head_count", number(config.heads)),
        ("attention.head_count_kv", number(config.kv_heads)),
        ("attention.key_length", number(config.head_dim)),
        ("attention.value_length", number(config.head_dim)),
        ("attention.layer_norm_rms_epsilon", Value::F32(config.norm_eps as f32)),
        ("rope.freq_base", Value::F32(config.rope.theta as f32)),
        ("rope.dimension_count", number(config.head_dim)),
        ("vocab_size", number(config.vocab)),
    ] {
        list.push((format!("llama.{key}"), value));
    }
    if let Some(stop) = config.stop_tokens.first() {
        list.push(("tokenizer.ggml.eos_token_id".into(), Value::U32(*stop)));
    }
    list
}

//! The types of tensors: their names, and the type of each tensor of a file.

use candle_core::quantized::GgmlDType;
use modelgate_model::Config;

/// The types of weights: name, type and number in `ggml.h`.
const TYPES: [(&str, GgmlDType, u32); 13] = [
    ("f32", GgmlDType::F32, 0),
    ("f16", GgmlDType::F16, 1),
    ("bf16", GgmlDType::BF16, 30),
    ("q4_0", GgmlDType::Q4_0, 2),
    ("q4_1", GgmlDType::Q4_1, 3),
    ("q5_0", GgmlDType::Q5_0, 6),
    ("q5_1", GgmlDType::Q5_1, 7),
    ("q8_0", GgmlDType::Q8_0, 8),
    ("q2_k", GgmlDType::Q2K, 10),
    ("q3_k", GgmlDType::Q3K, 11),
    ("q4_k", GgmlDType::Q4K, 12),
    ("q5_k", GgmlDType::Q5K, 13),
    ("q6_k", GgmlDType::Q6K, 14),
];

/// Returns the type with the name `name`, for example `q4_k`. `None` if the name is unknown.
pub fn type_by_name(name: &str) -> Option<GgmlDType> {
    TYPES.iter().find(|(known, ..)| *known == name).map(|(_, dtype, _)| *dtype)
}

/// Returns the number of a type in `ggml.h`, which GGUF files contain.
pub(crate) fn type_number(dtype: GgmlDType) -> u32 {
    let known = TYPES.iter().find(|(_, known, _)| *known == dtype);
    known.unwrap_or_else(|| panic!("type {dtype:?} is not a type of weights")).2
}

/// Returns a function that selects `matrix` for each matrix whose row length is a multiple of the
/// block size, and f32 for all other tensors.
pub fn uniform(matrix: GgmlDType) -> impl Fn(&str, &[usize]) -> GgmlDType {
    move |name, shape| match shape {
        _ if stays_float(name, shape) => GgmlDType::F32,
        [.., columns] if columns.is_multiple_of(matrix.block_size()) => matrix,
        _ => GgmlDType::F32,
    }
}

/// Returns a function that selects the types of llama.cpp's mix `Q4_K_M`
/// (`llama_tensor_get_type_impl` in `llama-quant.cpp`), without its exceptions for models of 80
/// layers.
pub fn q4_k_m(config: &Config) -> impl Fn(&str, &[usize]) -> GgmlDType + use<> {
    let (layers, tied) = (config.layers, config.tied_embeddings);
    let eight_experts = config.experts.is_some_and(|experts| experts.count == 8);
    let more_bits = move |layer: usize| {
        let eighth = layers / 8;
        layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
    };
    move |name, shape| {
        if stays_float(name, shape) {
            return GgmlDType::F32;
        }
        let mut parts = name.trim_start_matches("blk.").split('.');
        let layer = parts.next().and_then(|layer| layer.parse().ok());
        let matrix = parts.next().unwrap_or_default();
        let wanted = match (name, matrix) {
            ("output.weight", _) => GgmlDType::Q6K,
            ("token_embd.weight", _) if tied => GgmlDType::Q6K,
            (_, "attn_v" | "attn_k") if eight_experts => GgmlDType::Q8_0,
            (_, "attn_output") if eight_experts => GgmlDType::Q5K,
            (_, "attn_v" | "ffn_down" | "ffn_down_exps") if layer.is_some_and(more_bits) => {
                GgmlDType::Q6K
            }
            _ => GgmlDType::Q4K,
        };
        if shape.last().is_some_and(|columns| columns.is_multiple_of(wanted.block_size())) {
            return wanted;
        }
        match wanted {
            GgmlDType::Q4K => GgmlDType::Q5_0,
            GgmlDType::Q5K => GgmlDType::Q5_1,
            _ => GgmlDType::Q8_0,
        }
    }
}

/// Returns whether llama.cpp leaves a tensor unquantized: a vector, or the router matrix of a
/// mixture of experts.
fn stays_float(name: &str, shape: &[usize]) -> bool {
    shape.len() < 2 || name.ends_with("ffn_gate_inp.weight")
}

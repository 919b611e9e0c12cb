//! Decides which tensors are quantized, as a pure function of name, shape and scheme.
//!
//! Loading and prediction use it. The `quantization` check has its own rule.

use modelgate_protocol::{DType, Role, Scheme};

/// The planned type of a tensor, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The role of the tensor.
    pub role: Role,
    /// The quantized type; `None` if the tensor keeps a float type.
    pub quantized: Option<DType>,
    /// Why the tensor does not have the type of the scheme. `None` if it does, or if the scheme
    /// requests no quantization.
    pub reason: Option<String>,
}

/// The block types, each with the type that replaces it in matrices whose rows its block does not
/// divide. Source: `tensor_type_fallback` in `llama-quant.cpp` of llama.cpp.
const FALLBACKS: [(DType, DType); 5] = [
    (DType::Q2K, DType::Q4_0),
    (DType::Q3K, DType::Q4_0),
    (DType::Q4K, DType::Q5_0),
    (DType::Q5K, DType::Q5_1),
    (DType::Q6K, DType::Q8_0),
];

/// Returns the type in [`FALLBACKS`] that replaces `dtype`. `None` if there is none.
fn fallback(dtype: &DType) -> Option<DType> {
    FALLBACKS.iter().find(|(base, _)| base == dtype).map(|(_, other)| other.clone())
}

/// Returns whether the block size of `dtype` divides a row of `row` values.
fn divides(dtype: &DType, row: u64) -> bool {
    row != 0 && dtype.block().is_some_and(|(block, _)| row.is_multiple_of(block))
}

/// Returns the type of a float tensor in memory. On the CPU it is f32, the type of its arithmetic.
/// On a device, matrices keep the type of the file, and small tensors are f32. Values of 64 bits
/// become f32, because no device computes with them.
pub fn float_dtype(role: Role, source: &DType, on_device: bool) -> DType {
    if on_device && role.is_quantizable() && !source.is_quantized() && *source != DType::F64 {
        source.clone()
    } else {
        DType::F32
    }
}

/// Returns the role of a tensor from its name (Hugging Face or GGUF) and its shape.
pub fn role(name: &str, shape: &[u64]) -> Role {
    if name.ends_with(".bias") {
        return Role::Bias;
    }
    let stem = name.strip_suffix(".weight").unwrap_or(name);
    let last = stem.rsplit('.').next().unwrap_or(stem);
    if last == "embed_tokens" || last == "token_embd" {
        return Role::Embedding;
    }
    if last == "lm_head" || stem == "output" {
        return Role::Output;
    }
    if last.ends_with("norm") || last.starts_with("norm") {
        return Role::Norm;
    }
    if last == "ffn_gate_inp" || stem.ends_with("block_sparse_moe.gate") {
        return Role::Router;
    }
    if stem.contains(".experts.") || last.ends_with("_exps") || is_gguf_expert(stem) {
        return Role::Expert;
    }
    if last.contains("conv") {
        return Role::Convolution;
    }
    if name.ends_with(".weight") && shape.len() == 2 { Role::Linear } else { Role::Other }
}

/// Returns whether the name is `blk.N.ffn_gate.E`: a matrix of one expert in older GGUF files.
fn is_gguf_expert(stem: &str) -> bool {
    let mut parts = stem.rsplit('.');
    let number = parts.next().is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit()));
    number && parts.next().is_some_and(|part| part.starts_with("ffn_"))
}

/// Returns the type of a tensor with this name and shape (rows first, so that the last size is the
/// length of a row) in `scheme`.
pub fn residence(name: &str, shape: &[u64], scheme: Scheme) -> Placement {
    let role = role(name, shape);
    let Some(dtype) = scheme.dtype() else {
        return Placement { role, quantized: None, reason: None };
    };
    if !role.is_quantizable() {
        let reason = format!("{} tensors are not quantized", role.name());
        return Placement { role, quantized: None, reason: Some(reason) };
    }
    let (block, _) = dtype.block().unwrap_or((1, 1));
    let row = shape.last().copied().unwrap_or(0);
    if divides(&dtype, row) {
        return Placement { role, quantized: Some(dtype), reason: None };
    }
    let reason =
        format!("its rows of {row} are not a multiple of the block size {block} of {dtype}");
    let quantized = fallback(&dtype).filter(|other| divides(other, row));
    Placement { role, quantized, reason: Some(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_of_both_formats_have_their_role() {
        let cases: [(&str, &[u64], Role); 18] = [
            ("model.embed_tokens.weight", &[512, 256], Role::Embedding),
            ("token_embd.weight", &[512, 256], Role::Embedding),
            ("lm_head.weight", &[512, 256], Role::Output),
            ("thinker.lm_head.weight", &[512, 256], Role::Output),
            ("output.weight", &[512, 256], Role::Output),
            ("output_norm.weight", &[256], Role::Norm),
            ("model.norm.weight", &[256], Role::Norm),
            ("model.layers.0.input_layernorm.weight", &[256], Role::Norm),
            ("blk.0.attn_norm.weight", &[256], Role::Norm),
            ("model.layers.0.self_attn.q_proj.weight", &[256, 256], Role::Linear),
            ("model.layers.0.self_attn.q_proj.bias", &[256], Role::Bias),
            ("blk.0.attn_output.weight", &[256, 256], Role::Linear),
            ("model.layers.3.block_sparse_moe.gate.weight", &[8, 256], Role::Router),
            ("blk.3.ffn_gate_inp.weight", &[8, 256], Role::Router),
            ("model.layers.3.block_sparse_moe.experts.7.w1.weight", &[512, 256], Role::Expert),
            ("blk.3.ffn_gate_exps.weight", &[8, 512, 256], Role::Expert),
            ("blk.3.ffn_gate.7.weight", &[512, 256], Role::Expert),
            ("rope_freqs.weight", &[16], Role::Other),
        ];
        for (name, shape, expected) in cases {
            assert_eq!(role(name, shape), expected, "{name}");
        }
    }

    #[test]
    fn rows_not_divisible_by_the_block_size_have_a_fallback_type() {
        for (scheme, expected) in
            [(Scheme::Q4K, DType::Q5_0), (Scheme::Q5K, DType::Q5_1), (Scheme::Q6K, DType::Q8_0)]
        {
            let placed = residence("a.q_proj.weight", &[64, 576], scheme);
            assert_eq!(placed.quantized, Some(expected));
            let reason = placed.reason.expect("a reason");
            assert!(reason.contains("rows of 576") && reason.contains("256"), "{reason}");
            assert_eq!(residence("a.q_proj.weight", &[64, 300], scheme).quantized, None);
        }
    }

    #[test]
    fn rows_that_no_block_divides_stay_unquantized_with_a_reason() {
        let placed = residence("a.q_proj.weight", &[64, 3420], Scheme::Q8_0);
        assert_eq!(placed.quantized, None);
        assert_eq!(
            placed.reason.as_deref(),
            Some("its rows of 3420 are not a multiple of the block size 32 of q8_0")
        );
        assert_eq!(
            residence("a.q_proj.weight", &[64, 512], Scheme::Q4K).quantized,
            Some(DType::Q4K)
        );
        assert_eq!(residence("a.q_proj.weight", &[64, 512], Scheme::None).reason, None);
    }
}

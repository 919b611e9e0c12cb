//! Which tensors a quantized model must have quantized, by the check's own reading of their names and
//! shapes. The loader's rule is not asked: a check that asked it would repeat its mistakes.

/// What a tensor is, as far as quantization goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TensorClass {
    /// A matrix that tokens are multiplied with, or the embedding.
    Matrix,
    /// The weight of a norm.
    Norm,
    /// A bias.
    Bias,
    /// The matrix that chooses experts: as many rows as there are experts.
    Router,
    /// Anything else, such as a table of frequencies.
    Other,
}

impl TensorClass {
    /// Returns the name in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            TensorClass::Matrix => "linear",
            TensorClass::Norm => "norm",
            TensorClass::Bias => "bias",
            TensorClass::Router => "router",
            TensorClass::Other => "other",
        }
    }
}

/// Returns the class of a tensor with that name (of a Hugging Face checkpoint or of GGUF) and shape, rows
/// first.
///
/// The shape decides: what has one size is a norm or a bias, what has two or three is a matrix, unless
/// its name is that of a router.
pub(super) fn class(name: &str, shape: &[u64]) -> TensorClass {
    if name.ends_with(".bias") {
        return TensorClass::Bias;
    }
    let Some(stem) = name.strip_suffix(".weight") else {
        return TensorClass::Other;
    };
    match shape {
        [_] if stem.contains("norm") => TensorClass::Norm,
        [_, _] if ROUTERS.iter().any(|router| stem.ends_with(router)) => TensorClass::Router,
        [_, _] | [_, _, _] => TensorClass::Matrix,
        _ => TensorClass::Other,
    }
}

/// The ends of routers' names: Mixtral's in a Hugging Face checkpoint, and every router's in GGUF.
const ROUTERS: [&str; 2] = ["block_sparse_moe.gate", "ffn_gate_inp"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_both_spellings() {
        let cases: [(&str, &[u64], TensorClass); 14] = [
            ("model.embed_tokens.weight", &[512, 256], TensorClass::Matrix),
            ("token_embd.weight", &[512, 256], TensorClass::Matrix),
            ("thinker.lm_head.weight", &[512, 256], TensorClass::Matrix),
            ("output.weight", &[512, 256], TensorClass::Matrix),
            ("output_norm.weight", &[256], TensorClass::Norm),
            ("model.layers.0.post_attention_layernorm.weight", &[256], TensorClass::Norm),
            ("model.layers.0.self_attn.q_proj.weight", &[256, 256], TensorClass::Matrix),
            ("model.layers.0.self_attn.q_proj.bias", &[256], TensorClass::Bias),
            ("blk.0.attn_output.weight", &[256, 256], TensorClass::Matrix),
            ("model.layers.3.block_sparse_moe.gate.weight", &[8, 256], TensorClass::Router),
            ("blk.3.ffn_gate_inp.weight", &[8, 256], TensorClass::Router),
            (
                "model.layers.3.block_sparse_moe.experts.7.w1.weight",
                &[512, 256],
                TensorClass::Matrix,
            ),
            ("blk.3.ffn_gate_exps.weight", &[8, 512, 256], TensorClass::Matrix),
            ("rope_freqs.weight", &[16], TensorClass::Other),
        ];
        for (name, shape, expected) in cases {
            assert_eq!(class(name, shape), expected, "{name}");
        }
    }
}

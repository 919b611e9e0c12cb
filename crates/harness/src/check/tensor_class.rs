//! Classifies tensors by name and shape, to decide which ones a quantized model must have
//! quantized. The rule of the loader is not used, because a check with the same rule would repeat
//! its mistakes.

/// The class of a tensor in terms of quantization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TensorClass {
    /// A matrix that is multiplied with tokens, or the embedding.
    Matrix,
    /// The weight of a norm.
    Norm,
    /// A bias.
    Bias,
    /// The matrix that selects experts, with one row for each expert.
    Router,
    /// Any other tensor, for example a table of frequencies.
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

/// Returns the class of a tensor with this name (of a Hugging Face checkpoint or of GGUF) and
/// shape, rows first.
///
/// The shape decides: a tensor with one dimension is a norm or a bias; a tensor with two or three
/// is a matrix, unless it has the name of a router.
pub(super) fn class(name: &str, shape: &[u64]) -> TensorClass {
    if name.ends_with(".bias") {
        return TensorClass::Bias;
    }
    let Some(stem) = name.strip_suffix(".weight") else {
        return TensorClass::Other;
    };
    match shape {
        [_] if stem.contains("norm") => TensorClass::Norm,
        [_, _] if ROUTER_SUFFIXES.iter().any(|router| stem.ends_with(router)) => {
            TensorClass::Router
        }
        [_, _] | [_, _, _] => TensorClass::Matrix,
        _ => TensorClass::Other,
    }
}

/// The suffixes of the names of routers: Mixtral in a Hugging Face checkpoint, and all routers in
/// GGUF.
const ROUTER_SUFFIXES: [&str; 2] = ["block_sparse_moe.gate", "ffn_gate_inp"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_safetensors_and_gguf_have_the_same_tensor_class() {
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

//! The tensor names of llama.cpp (`gguf-py/gguf/constants.py`, `tensor_mapping.py`).

/// The location of a tensor of a Hugging Face checkpoint in a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufName {
    /// The name of the tensor, if it is stored separately.
    pub name: String,
    /// The name of the merged tensor of all experts of a layer, in the order of [`crate::tensors`].
    /// `None` for a tensor that does not belong to an expert.
    pub merged: Option<String>,
}

/// Returns the name of llama.cpp for a tensor with a Hugging Face name from [`crate::tensors`].
/// `None` for a tensor that GGUF files of text models do not contain.
pub fn gguf_name(name: &str) -> Option<GgufName> {
    let plain = |name: String| Some(GgufName { name, merged: None });
    let Some(of_layer) = name.strip_prefix("model.layers.") else {
        let global = match name {
            "model.embed_tokens.weight" => "token_embd.weight",
            "model.norm.weight" => "output_norm.weight",
            "lm_head.weight" => "output.weight",
            _ => return None,
        };
        return plain(global.to_owned());
    };
    let (layer, rest) = of_layer.split_once('.')?;
    let (stem, kind) = rest.rsplit_once('.')?;
    if let Some(expert) = stem.strip_prefix("block_sparse_moe.experts.") {
        let (number, matrix) = expert.split_once('.')?;
        let matrix = match matrix {
            "w1" => "ffn_gate",
            "w2" => "ffn_down",
            "w3" => "ffn_up",
            _ => return None,
        };
        return Some(GgufName {
            name: format!("blk.{layer}.{matrix}.{number}.{kind}"),
            merged: Some(format!("blk.{layer}.{matrix}_exps.{kind}")),
        });
    }
    let stem = match stem {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "block_sparse_moe.gate" => "ffn_gate_inp",
        _ => return None,
    };
    plain(format!("blk.{layer}.{stem}.{kind}"))
}

//! llama.cpp's names of tensors (`gguf-py/gguf/constants.py`, `tensor_mapping.py`).

/// Where a GGUF file holds a tensor of a Hugging Face checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufName {
    /// Name of the tensor alone.
    pub name: String,
    /// Name of the tensor that holds it with those of all other experts of its layer, in the order
    /// in which [`crate::tensors`] lists them; only for an expert's matrix.
    pub merged: Option<String>,
}

/// llama.cpp's name of a tensor that [`crate::tensors`] calls by its Hugging Face name; none for a
/// tensor that no GGUF file of a text model has.
pub fn gguf_name(name: &str) -> Option<GgufName> {
    let plain = |name: String| Some(GgufName { name, merged: None });
    let Some(of_layer) = name.strip_prefix("model.layers.") else {
        let whole = match name {
            "model.embed_tokens.weight" => "token_embd.weight",
            "model.norm.weight" => "output_norm.weight",
            "lm_head.weight" => "output.weight",
            _ => return None,
        };
        return plain(whole.to_owned());
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

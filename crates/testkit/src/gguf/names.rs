//! GGUF names of the tensors of a Hugging Face checkpoint (`tensor_mapping.py` of llama.cpp).

/// Returns the GGUF name of a tensor of a Hugging Face checkpoint of the Llama family. A tensor of
/// one expert gets the name that files with separate experts use. `None` if the tensor has no GGUF
/// name.
pub fn gguf_name(name: &str) -> Option<String> {
    let name = name.strip_prefix("thinker.").unwrap_or(name);
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
        "block_sparse_moe.gate" => "ffn_gate_inp",
        _ => {
            let (expert, matrix) =
                stem.strip_prefix("block_sparse_moe.experts.")?.split_once('.')?;
            let matrix = match matrix {
                "w1" => "ffn_gate",
                "w2" => "ffn_down",
                "w3" => "ffn_up",
                _ => return None,
            };
            return Some(format!("blk.{layer}.{matrix}.{expert}.{kind}"));
        }
    };
    Some(format!("blk.{layer}.{stem}.{kind}"))
}

/// Returns whether llama.cpp's converter omits a tensor from the file of the text model.
pub(super) fn is_omitted(name: &str) -> bool {
    ["thinker.visual.", "thinker.audio_tower.", "talker.", "token2wav."]
        .iter()
        .any(|part| name.starts_with(part))
}

/// Returns the name of the merged tensor that contains the tensor of one expert, and the index of
/// the expert. `None` if `name` is not the GGUF name of a tensor of one expert.
pub(crate) fn merged_expert_name(name: &str) -> Option<(String, usize)> {
    let parts: Vec<&str> = name.split('.').collect();
    let ["blk", layer, matrix, expert, "weight"] = parts.as_slice() else { return None };
    Some((format!("blk.{layer}.{matrix}_exps.weight"), expert.parse().ok()?))
}

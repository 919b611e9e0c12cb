//! The tensors of a config, with their names in a Hugging Face checkpoint.
//!
//! Source: the `state_dict` of `LlamaForCausalLM`, `MixtralForCausalLM`, `Qwen2ForCausalLM` and
//! `Qwen2_5OmniThinkerForConditionalGeneration` of transformers. A test compares with these models,
//! created on the meta device.

use crate::config::{Config, Family};

/// The name and shape of a tensor, rows (output features) first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorShape {
    /// The name in the checkpoint.
    pub name: String,
    /// The sizes of the dimensions.
    pub shape: Vec<usize>,
}

impl TensorShape {
    /// Returns the number of values.
    pub fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |product: u64, size| product.saturating_mul(*size as u64))
    }
}

/// Returns all tensors of the text model that `config` describes: embedding, layers in order, final
/// norm, output matrix (unless it is tied to the embedding).
pub fn tensors(config: &Config) -> Vec<TensorShape> {
    let prefix = config.prefix;
    let mut list =
        vec![tensor(format!("{prefix}model.embed_tokens.weight"), &[config.vocab, config.hidden])];
    for layer in 0..config.layers {
        let prefix = format!("{prefix}model.layers.{layer}.");
        attention(config, &prefix, &mut list);
        feed_forward(config, &prefix, &mut list);
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            list.push(tensor(format!("{prefix}{norm}.weight"), &[config.hidden]));
        }
    }
    list.push(tensor(format!("{prefix}model.norm.weight"), &[config.hidden]));
    if !config.tied_embeddings {
        list.push(tensor(format!("{prefix}lm_head.weight"), &[config.vocab, config.hidden]));
    }
    list
}

/// Returns the number of weights of the text model.
pub fn parameters(config: &Config) -> u64 {
    tensors(config).iter().map(TensorShape::elements).fold(0, u64::saturating_add)
}

fn attention(config: &Config, prefix: &str, list: &mut Vec<TensorShape>) {
    let q = config.heads * config.head_dim;
    let kv = config.kv_heads * config.head_dim;
    for (name, rows) in [("q_proj", q), ("k_proj", kv), ("v_proj", kv)] {
        list.push(tensor(format!("{prefix}self_attn.{name}.weight"), &[rows, config.hidden]));
        if config.qkv_bias {
            list.push(tensor(format!("{prefix}self_attn.{name}.bias"), &[rows]));
        }
    }
    list.push(tensor(format!("{prefix}self_attn.o_proj.weight"), &[config.hidden, q]));
}

fn feed_forward(config: &Config, prefix: &str, list: &mut Vec<TensorShape>) {
    let (wide, narrow) = ([config.ffn, config.hidden], [config.hidden, config.ffn]);
    match (config.family, config.experts) {
        (Family::Mixtral, Some(experts)) => {
            let moe = format!("{prefix}block_sparse_moe.");
            list.push(tensor(format!("{moe}gate.weight"), &[experts.count, config.hidden]));
            for expert in 0..experts.count {
                for (name, shape) in [("w1", wide), ("w2", narrow), ("w3", wide)] {
                    list.push(tensor(format!("{moe}experts.{expert}.{name}.weight"), &shape));
                }
            }
        }
        _ => {
            for (name, shape) in [("gate_proj", wide), ("up_proj", wide), ("down_proj", narrow)] {
                list.push(tensor(format!("{prefix}mlp.{name}.weight"), &shape));
            }
        }
    }
}

fn tensor(name: String, shape: &[usize]) -> TensorShape {
    TensorShape { name, shape: shape.to_vec() }
}

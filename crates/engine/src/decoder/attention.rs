//! Grouped-query attention (Ainslie et al., 2023, arXiv:2305.13245) over the cache.

use super::kv_cache::LayerCache;
use super::rope::Rope;
use super::{Linear, Step};
use crate::storage::Resident;
use candle_core::{Result, Tensor};
use modelgate_model::Config;
use std::collections::HashMap;

/// Attention of one layer.
pub(super) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Attention {
    /// Takes the matrices whose names begin with `prefix`.
    pub(super) fn new(
        config: &Config,
        weights: &mut HashMap<String, Resident>,
        prefix: &str,
    ) -> Result<Attention> {
        let mut linear = |name, biased| Linear::new(weights, &format!("{prefix}{name}"), biased);
        Ok(Attention {
            query: linear("q_proj", config.qkv_bias)?,
            key: linear("k_proj", config.qkv_bias)?,
            value: linear("v_proj", config.qkv_bias)?,
            output: linear("o_proj", false)?,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        })
    }

    /// Rows of `x` (n, width) to rows of the same width; their keys and values go to the cache.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        step: &Step,
        mask: Option<&Tensor>,
        rope: &Rope,
        memory: &LayerCache,
    ) -> Result<Tensor> {
        let query = self.split(self.query.forward(x)?, self.heads)?;
        let query = rope.turn(&query, &step.cos, &step.sin)?;
        let key = self.split(self.key.forward(x)?, self.kv_heads)?;
        let key = rope.turn(&key, &step.cos, &step.sin)?;
        let value = self.split(self.value.forward(x)?, self.kv_heads)?;
        let (keys, values) = memory.append(&key, &value, step.start)?;
        let mixed = self.attend(query, &keys, &values, mask)?;
        self.output.forward(&mixed)
    }

    /// (n, heads times width) to (heads, n, width).
    fn split(&self, x: Tensor, heads: usize) -> Result<Tensor> {
        x.reshape((x.dim(0)?, heads, self.head_dim))?.transpose(0, 1)
    }

    /// Queries (heads, n, width), keys and values (kv heads, all, width) to (n, heads times width).
    ///
    /// The queries that share a key stand below each other as one matrix, so that no key is ever
    /// repeated. Of the scores, the largest tensors there are, two copies live at any time.
    fn attend(
        &self,
        query: Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (count, all) = (query.dim(1)?, keys.dim(1)?);
        let group = self.heads / self.kv_heads;
        let grouped = (self.kv_heads, group * count, self.head_dim);
        let query = (query * (1.0 / (self.head_dim as f64).sqrt()))?.reshape(grouped)?;
        let mut scores = query.matmul(&keys.transpose(1, 2)?)?;
        if let Some(mask) = mask {
            let apart = scores.reshape((self.heads, count, all))?;
            drop(scores);
            scores = apart.broadcast_add(mask)?.reshape((self.kv_heads, group * count, all))?;
        }
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        drop(scores);
        let mixed = weights.matmul(values)?;
        mixed
            .reshape((self.heads, count, self.head_dim))?
            .transpose(0, 1)?
            .reshape((count, self.heads * self.head_dim))
    }
}

//! Grouped-query attention (Ainslie et al., 2023, arXiv:2305.13245) over the cache.

use super::kv_cache::LayerCache;
use super::rope::Rope;
use super::{Linear, Mask, Step};
use crate::gpu::{Heads, attend, rope_append};
use crate::storage::Resident;
use candle_core::{Result, Tensor};
use modelgate_model::{Config, SCORE_BYTES};
use std::collections::HashMap;

/// Widths of a head that the kernel for single tokens takes are multiples of this.
const ALIGNED: usize = 8;

/// Attention of one layer.
pub(super) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    sizes: Heads,
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
            sizes: Heads { heads: config.heads, kv_heads: config.kv_heads, width: config.head_dim },
        })
    }

    /// Whether the kernel for single tokens takes the width of the heads.
    pub(super) fn takes_single_tokens(&self) -> bool {
        self.sizes.width.is_multiple_of(ALIGNED)
    }

    /// Rows of `x` (n, width) to rows of the same width; their keys and values go to the cache.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        step: &Step,
        mask: &Mask,
        rope: &Rope,
        memory: &LayerCache,
    ) -> Result<Tensor> {
        let query = self.query.forward(x)?;
        let key = self.key.forward(x)?;
        let value = self.value.forward(x)?;
        let end = step.start + x.dim(0)?;
        let mixed = if let Some(position) = &step.position {
            let (sizes, cache) = (self.sizes, memory.whole());
            let projected = [&query, &key, &value];
            let angles = [&step.cos, &step.sin];
            let interleaved = rope.is_interleaved();
            let query = rope_append(projected, angles, cache, sizes, position, interleaved)?;
            if x.dim(0)? == 1 && self.takes_single_tokens() {
                attend(&query, cache, sizes, position, mask.window)?
            } else {
                let (keys, values) = memory.until(end)?;
                self.attend(&query, &keys, &values, mask)?
            }
        } else {
            let query = rope.turn(&self.split(query, self.sizes.heads)?, &step.cos, &step.sin)?;
            let key = rope.turn(&self.split(key, self.sizes.kv_heads)?, &step.cos, &step.sin)?;
            memory.append(&key, &self.split(value, self.sizes.kv_heads)?, step.start)?;
            let (keys, values) = memory.until(end)?;
            self.attend(&query, &keys, &values, mask)?
        };
        self.output.forward(&mixed)
    }

    /// (n, heads times width) to (heads, n, width).
    fn split(&self, x: Tensor, heads: usize) -> Result<Tensor> {
        x.reshape((x.dim(0)?, heads, self.sizes.width))?.transpose(0, 1)
    }

    /// Queries (heads, n, width), keys and values (kv heads, all, width) to (n, heads times width),
    /// so many queries at once that their scores stay within [`SCORE_BYTES`].
    fn attend(
        &self,
        query: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: &Mask,
    ) -> Result<Tensor> {
        let (count, all) = (query.dim(1)?, keys.dim(1)?);
        let bytes_of_one = (self.sizes.heads * all * size_of::<f32>()) as u64;
        let at_once = ((SCORE_BYTES / bytes_of_one.max(1)) as usize).clamp(1, count);
        if at_once == count {
            return self.attend_part(query, keys, values, mask.tensor.as_ref());
        }
        let parts = (0..count).step_by(at_once).map(|first| {
            let rows = at_once.min(count - first);
            let query = query.narrow(1, first, rows)?.contiguous()?;
            let mask = mask.tensor.as_ref().map(|mask| mask.narrow(0, first, rows)).transpose()?;
            self.attend_part(&query, keys, values, mask.as_ref())
        });
        Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
    }

    /// The same for all queries at once.
    ///
    /// The queries that share a key stand below each other as one matrix, so that no key is ever
    /// repeated. Of the scores, the largest tensors there are, two copies live at any time.
    fn attend_part(
        &self,
        query: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let Heads { heads, kv_heads, width } = self.sizes;
        let (count, all) = (query.dim(1)?, keys.dim(1)?);
        let group = heads / kv_heads;
        let grouped = (kv_heads, group * count, width);
        let query = (query * (1.0 / (width as f64).sqrt()))?.reshape(grouped)?;
        let mut scores = query.matmul(&keys.transpose(1, 2)?)?;
        if let Some(mask) = mask {
            let apart = scores.reshape((heads, count, all))?;
            drop(scores);
            scores = apart.broadcast_add(mask)?.reshape((kv_heads, group * count, all))?;
        }
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        drop(scores);
        let mixed = weights.matmul(values)?;
        mixed.reshape((heads, count, width))?.transpose(0, 1)?.reshape((count, heads * width))
    }
}

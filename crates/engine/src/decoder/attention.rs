//! Grouped-query attention (Ainslie et al., 2023, arXiv:2305.13245) over the KV cache.

use super::kv_cache::LayerCache;
use super::linear::Linear;
use super::mask::Mask;
use super::rope::Rope;
use super::step::Step;
use crate::cuda::{AttentionShape, attend, rope_append};
use crate::weights::WeightMap;
use candle_core::{Result, Tensor};
use modelgate_model::{Config, SCORE_BYTES};

/// The kernel for single tokens supports heads whose width is a multiple of this.
const ALIGNMENT: usize = 8;

/// Attention of one layer.
pub(super) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    shape: AttentionShape,
}

impl Attention {
    /// Takes the matrices whose names begin with `prefix`.
    pub(super) fn new(config: &Config, weights: &mut WeightMap, prefix: &str) -> Result<Attention> {
        let mut linear = |name, biased| Linear::new(weights, &format!("{prefix}{name}"), biased);
        Ok(Attention {
            query: linear("q_proj", config.qkv_bias)?,
            key: linear("k_proj", config.qkv_bias)?,
            value: linear("v_proj", config.qkv_bias)?,
            output: linear("o_proj", false)?,
            shape: AttentionShape {
                heads: config.heads,
                kv_heads: config.kv_heads,
                width: config.head_dim,
            },
        })
    }

    /// Returns whether the kernel for single tokens supports the width of the heads.
    pub(super) fn takes_single_tokens(&self) -> bool {
        self.shape.width.is_multiple_of(ALIGNMENT)
    }

    /// Maps rows of `x` (n, width) to rows of the same width; their keys and values are added to the
    /// cache.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        step: &Step,
        mask: &Mask,
        rope: &Rope,
        cache: &LayerCache,
    ) -> Result<Tensor> {
        let query = self.query.forward(x)?;
        let key = self.key.forward(x)?;
        let value = self.value.forward(x)?;
        let end = step.start + x.dim(0)?;
        let mixed = if let Some(position) = &step.position {
            let (shape, whole) = (self.shape, cache.whole());
            let projected = [&query, &key, &value];
            let angles = [&step.cos, &step.sin];
            let interleaved = rope.is_interleaved();
            let query = rope_append(projected, angles, whole, shape, position, interleaved)?;
            if x.dim(0)? == 1 && self.takes_single_tokens() {
                attend(&query, whole, shape, position, mask.window)?
            } else {
                let (keys, values) = cache.until(end)?;
                self.attend(&query, &keys, &values, mask)?
            }
        } else {
            let query = rope.rotate(&self.split(query, self.shape.heads)?, &step.cos, &step.sin)?;
            let key = rope.rotate(&self.split(key, self.shape.kv_heads)?, &step.cos, &step.sin)?;
            cache.append(&key, &self.split(value, self.shape.kv_heads)?, step.start)?;
            let (keys, values) = cache.until(end)?;
            self.attend(&query, &keys, &values, mask)?
        };
        self.output.forward(&mixed)
    }

    /// Reshapes (n, heads times width) to (heads, n, width).
    fn split(&self, x: Tensor, heads: usize) -> Result<Tensor> {
        x.reshape((x.dim(0)?, heads, self.shape.width))?.transpose(0, 1)
    }

    /// Computes the attention of queries (heads, n, width) to keys and values (kv heads, all, width):
    /// (n, heads times width). Takes so many queries at once that their scores stay within
    /// [`SCORE_BYTES`].
    fn attend(
        &self,
        query: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: &Mask,
    ) -> Result<Tensor> {
        let (count, all) = (query.dim(1)?, keys.dim(1)?);
        let bytes_of_one = (self.shape.heads * all * size_of::<f32>()) as u64;
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

    /// Computes the attention of all queries at once.
    ///
    /// The queries that share a key are stacked to one matrix, so that no key is ever repeated. Of the
    /// scores, the largest tensors of all, two copies live at any time.
    fn attend_part(
        &self,
        query: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let AttentionShape { heads, kv_heads, width } = self.shape;
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

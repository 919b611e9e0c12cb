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

/// The number of values of which the head width must be a multiple for the single-token kernel.
const HEAD_WIDTH_ALIGNMENT: usize = 8;

/// The attention block of one layer: the projections of queries, keys, values and the output.
pub(super) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    shape: AttentionShape,
}

impl Attention {
    /// Creates the attention of one layer; removes the matrices whose names begin with `prefix`
    /// from `weights`.
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

    /// Returns whether the single-token kernel supports the head width of this layer.
    pub(super) fn supports_single_tokens(&self) -> bool {
        self.shape.width.is_multiple_of(HEAD_WIDTH_ALIGNMENT)
    }

    /// Computes the attention of `x` (n, hidden size) and returns a tensor of the same shape.
    /// Writes the keys and values of the n tokens to the cache.
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
        let attended = if let Some(position) = &step.position {
            let (shape, buffers) = (self.shape, cache.buffers());
            let projected = [&query, &key, &value];
            let angles = [&step.cos, &step.sin];
            let interleaved = rope.is_interleaved();
            let query = rope_append(projected, angles, buffers, shape, position, interleaved)?;
            if x.dim(0)? == 1 && self.supports_single_tokens() {
                attend(&query, buffers, shape, position, mask.window)?
            } else {
                let (keys, values) = cache.up_to(end)?;
                self.attend(&query, &keys, &values, mask)?
            }
        } else {
            let query =
                rope.rotate(&self.split_heads(query, self.shape.heads)?, &step.cos, &step.sin)?;
            let key =
                rope.rotate(&self.split_heads(key, self.shape.kv_heads)?, &step.cos, &step.sin)?;
            cache.append(&key, &self.split_heads(value, self.shape.kv_heads)?, step.start)?;
            let (keys, values) = cache.up_to(end)?;
            self.attend(&query, &keys, &values, mask)?
        };
        self.output.forward(&attended)
    }

    /// Reshapes (n, heads * width) to (heads, n, width).
    fn split_heads(&self, x: Tensor, heads: usize) -> Result<Tensor> {
        x.reshape((x.dim(0)?, heads, self.shape.width))?.transpose(0, 1)
    }

    /// Computes the attention of queries (heads, n, width) to keys and values (KV heads, positions,
    /// width), and returns (n, heads * width). Processes the queries in chunks whose scores take at
    /// most [`SCORE_BYTES`], or one by one if the scores of a single query take more.
    fn attend(
        &self,
        query: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: &Mask,
    ) -> Result<Tensor> {
        let (count, positions) = (query.dim(1)?, keys.dim(1)?);
        let query_bytes = (self.shape.heads * positions * size_of::<f32>()) as u64;
        let chunk = ((SCORE_BYTES / query_bytes.max(1)) as usize).clamp(1, count);
        if chunk == count {
            return self.attend_chunk(query, keys, values, mask.tensor.as_ref());
        }
        let parts = (0..count).step_by(chunk).map(|first| {
            let rows = chunk.min(count - first);
            let query = query.narrow(1, first, rows)?.contiguous()?;
            let mask = mask.tensor.as_ref().map(|mask| mask.narrow(0, first, rows)).transpose()?;
            self.attend_chunk(&query, keys, values, mask.as_ref())
        });
        Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
    }

    /// Computes the attention of queries (heads, n, width) in one pass. The result is
    /// (n, heads * width).
    ///
    /// The queries of all heads that share a KV head are stacked into one matrix, so that keys are
    /// not copied for each head. At most two copies of the scores, which are the largest tensors
    /// here, exist at any time.
    fn attend_chunk(
        &self,
        query: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let AttentionShape { heads, kv_heads, width } = self.shape;
        let (count, positions) = (query.dim(1)?, keys.dim(1)?);
        let group = heads / kv_heads;
        let grouped = (kv_heads, group * count, width);
        let query = (query * (1.0 / (width as f64).sqrt()))?.reshape(grouped)?;
        let mut scores = query.matmul(&keys.transpose(1, 2)?)?;
        if let Some(mask) = mask {
            let by_head = scores.reshape((heads, count, positions))?;
            drop(scores);
            scores = by_head.broadcast_add(mask)?.reshape((kv_heads, group * count, positions))?;
        }
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        drop(scores);
        let attended = weights.matmul(values)?;
        attended.reshape((heads, count, width))?.transpose(0, 1)?.reshape((count, heads * width))
    }
}

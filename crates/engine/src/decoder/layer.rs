//! One layer: attention and a feed-forward network, each applied to normalized input and added to
//! that input.

use super::attention::Attention;
use super::feed_forward::FeedForward;
use super::kv_cache::LayerCache;
use super::norm::Norm;
use super::rope::Rope;
use super::step::Step;
use crate::weights::WeightMap;
use candle_core::{Result, Tensor};
use modelgate_model::Config;

/// A transformer layer with attention, a feed-forward network and their norms.
pub(super) struct Layer {
    /// Whether the layer has a sliding window.
    has_window: bool,
    pub(super) attention_norm: Norm,
    pub(super) attention: Attention,
    pub(super) feed_forward_norm: Norm,
    feed_forward: FeedForward,
}

impl Layer {
    /// Creates the layer `number`, counted from 0; removes its weights from `weights`.
    pub(super) fn new(config: &Config, weights: &mut WeightMap, number: usize) -> Result<Layer> {
        let prefix = format!("{}model.layers.{number}.", config.prefix);
        let attention_norm =
            Norm::new(config, weights, &format!("{prefix}input_layernorm.weight"))?;
        let feed_forward_norm =
            Norm::new(config, weights, &format!("{prefix}post_attention_layernorm.weight"))?;
        Ok(Layer {
            has_window: config.window(number).is_some(),
            attention_norm,
            attention: Attention::new(config, weights, &format!("{prefix}self_attn."))?,
            feed_forward_norm,
            feed_forward: FeedForward::new(config, weights, &prefix)?,
        })
    }

    /// Evaluates the layer on hidden states `x` (n, hidden size), and returns a tensor of the same
    /// shape. Writes the keys and values of the n tokens to the cache.
    pub(super) fn forward(
        &self,
        x: Tensor,
        step: &Step,
        rope: &Rope,
        cache: &LayerCache,
    ) -> Result<Tensor> {
        let normed = self.attention_norm.forward(&x)?;
        let mask = if self.has_window { &step.windowed_mask } else { &step.mask };
        let x = (x + self.attention.forward(&normed, step, mask, rope, cache)?)?;
        let normed = self.feed_forward_norm.forward(&x)?;
        x + self.feed_forward.forward(&normed)?
    }
}

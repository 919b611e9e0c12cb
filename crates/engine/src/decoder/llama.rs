//! The whole decoder: embedding, layers, last norm and output matrix, with the KV cache.

use super::kv_cache::KvCache;
use super::layer::Layer;
use super::mask::Mask;
use super::norm::Norm;
use super::recorded_step::RecordedStep;
use super::rope::Rope;
use super::step::Step;
use crate::weights::{Resident, RopeLayout, WeightMap, take};
use candle_core::{Result, Tensor, bail};
use modelgate_model::Config;

/// A decoder and the KV cache of the tokens so far.
pub(crate) struct Decoder {
    pub(super) embedding: Resident,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Norm,
    pub(super) output: Resident,
    rope: Rope,
    pub(super) cache: KvCache,
    /// Positions that a token attends to in layers with a sliding window.
    pub(super) window: Option<usize>,
    /// The evaluation of a single token on a device, once there was one.
    pub(super) recorded: Option<RecordedStep>,
}

impl Decoder {
    /// Builds the decoder of these weights; `frequencies` are RoPE's, one for each pair of a head.
    pub(crate) fn new(
        config: &Config,
        mut weights: WeightMap,
        frequencies: &[f32],
        layout: RopeLayout,
        cache: KvCache,
    ) -> Result<Decoder> {
        let prefix = config.prefix;
        let weights = &mut weights;
        let embedding = take(weights, &format!("{prefix}model.embed_tokens.weight"))?;
        let output = if config.tied_embeddings {
            embedding.clone()
        } else {
            take(weights, &format!("{prefix}lm_head.weight"))?
        };
        let layers = (0..config.layers)
            .map(|number| Layer::new(config, weights, number))
            .collect::<Result<_>>()?;
        Ok(Decoder {
            embedding,
            layers,
            norm: Norm::new(config, weights, &format!("{prefix}model.norm.weight"))?,
            output,
            rope: Rope::new(frequencies, cache.positions(), layout, cache.device()?)?,
            cache,
            window: config.sliding_window.as_ref().map(|window| window.positions),
            recorded: None,
        })
    }

    /// Returns the number of positions that the cache can hold.
    pub(crate) fn positions(&self) -> usize {
        self.cache.positions()
    }

    /// Forgets all tokens.
    pub(crate) fn reset(&mut self) {
        self.cache.reset();
    }

    /// Returns the hidden states (n, width) after the last norm of tokens at positions `start` on. All
    /// positions before `start` must be in the cache. Calls `advance` after each layer with its share
    /// of the tokens: on a slow processor a long prompt takes minutes, which must not look like a
    /// stall.
    pub(crate) fn hidden(
        &mut self,
        tokens: &[u32],
        start: usize,
        advance: &dyn Fn(u64),
    ) -> Result<Tensor> {
        let end = start + tokens.len();
        if tokens.is_empty() || start > self.cache.filled() || end > self.cache.positions() {
            bail!(
                "tokens at positions {start} to {end}, with {} of {} positions in the cache",
                self.cache.filled(),
                self.cache.positions()
            )
        }
        let x = self.embedding.rows(tokens)?;
        let step = self.step(tokens.len(), start)?;
        let share = |layers: usize| (tokens.len() * layers / self.layers.len()) as u64;
        let hidden = self.through(x, &step, &|done| advance(share(done + 1) - share(done)))?;
        self.cache.set_filled(end);
        Ok(hidden)
    }

    /// Evaluates all layers and the last norm; calls `done` with the number of each layer.
    pub(super) fn through(
        &self,
        mut x: Tensor,
        step: &Step,
        done: &dyn Fn(usize),
    ) -> Result<Tensor> {
        for (number, (layer, cache)) in self.layers.iter().zip(self.cache.layers()).enumerate() {
            x = layer.forward(x, step, &self.rope, cache)?;
            done(number);
        }
        self.norm.forward(&x)
    }

    /// Evaluates `count` tokens at the last positions of the cache, whatever precedes them.
    pub(crate) fn warm_up(
        &mut self,
        count: usize,
        advance: &(dyn Fn(u64) + Sync),
    ) -> Result<Tensor> {
        let start = self.cache.positions().saturating_sub(count);
        self.cache.set_filled(start);
        let tokens = vec![0; count];
        self.hidden(&tokens, start, advance)
    }

    /// Returns the logits (n, vocabulary) of hidden states.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.output.product(hidden)
    }

    fn step(&self, count: usize, start: usize) -> Result<Step> {
        let device = self.cache.device()?;
        let mask = |window| Mask::new(count, start, window, device);
        let windowed = match self.window {
            Some(window) => mask(Some(window))?,
            None => Mask::without_values(None),
        };
        let plain = mask(None)?;
        if device.is_cpu() {
            let (cos, sin) = self.rope.angles(start, count)?;
            return Ok(Step { start, cos, sin, position: None, mask: plain, windowed });
        }
        let position = Tensor::new(&[start as u32], device)?;
        Ok(self.step_on_device(start, position, plain, windowed))
    }

    /// Returns a step whose first token's position is in memory of the device.
    pub(super) fn step_on_device(
        &self,
        start: usize,
        position: Tensor,
        mask: Mask,
        windowed: Mask,
    ) -> Step {
        let (cos, sin) = self.rope.tables();
        Step { start, cos, sin, position: Some(position), mask, windowed }
    }
}

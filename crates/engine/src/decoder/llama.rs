//! The complete decoder: embedding, layers, last norm and output matrix, with the KV cache.

use super::kv_cache::KvCache;
use super::layer::Layer;
use super::mask::Mask;
use super::norm::Norm;
use super::recorded_step::RecordedStep;
use super::rope::Rope;
use super::step::Step;
use crate::weights::{ResidentTensor, RopeLayout, WeightMap, take};
use candle_core::{Result, Tensor, bail};
use modelgate_model::Config;

/// A decoder and the KV cache of the tokens that it has evaluated.
pub(crate) struct Decoder {
    pub(super) embedding: ResidentTensor,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Norm,
    pub(super) output: ResidentTensor,
    rope: Rope,
    pub(super) cache: KvCache,
    /// The number of positions that a token attends to in layers with a sliding window, its own
    /// included; `None` if the model has no such layers.
    pub(super) window: Option<usize>,
    /// The buffers and recorded launches for single tokens on a device; `None` before the first
    /// single token.
    pub(super) recorded: Option<RecordedStep>,
}

impl Decoder {
    /// Builds the decoder from `weights`. `frequencies` are the RoPE frequencies in radians per
    /// position, one for each pair of values of a head.
    ///
    /// # Errors
    /// A weight is missing or has an unexpected type, or candle fails.
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

    /// Returns the capacity of the KV cache in positions.
    pub(crate) fn positions(&self) -> usize {
        self.cache.positions()
    }

    /// Marks the KV cache as empty.
    pub(crate) fn reset(&mut self) {
        self.cache.reset();
    }

    /// Returns the hidden states (n, hidden size) after the last norm, for n tokens at the
    /// positions from `start` on. Calls `advance` after each layer with the share of the n tokens
    /// that corresponds to one layer: on a slow processor a long prompt takes minutes, and callers
    /// report the progress so that it is not mistaken for a stall.
    ///
    /// # Errors
    /// There are no tokens, a position before `start` is not in the cache, the cache is too small,
    /// or candle fails.
    pub(crate) fn hidden(
        &mut self,
        tokens: &[u32],
        start: usize,
        advance: &dyn Fn(u64),
    ) -> Result<Tensor> {
        let end = start + tokens.len();
        if tokens.is_empty() || start > self.cache.filled() || end > self.cache.positions() {
            bail!(
                "tokens at positions {start} to {end}: cache contains {} of {} positions",
                self.cache.filled(),
                self.cache.positions()
            )
        }
        let x = self.embedding.rows(tokens)?;
        let step = self.step(tokens.len(), start)?;
        let share = |layers: usize| (tokens.len() * layers / self.layers.len()) as u64;
        let hidden =
            self.evaluate_layers(x, &step, &|done| advance(share(done + 1) - share(done)))?;
        self.cache.set_filled(end);
        Ok(hidden)
    }

    /// Evaluates all layers and the last norm on embeddings `x` (n, hidden size), and returns the
    /// hidden states. Calls `done` after each layer with its number, counted from 0.
    pub(super) fn evaluate_layers(
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

    /// Evaluates `count` tokens with the id 0 at the last positions of the cache, regardless of the
    /// content of the positions before them. Returns their hidden states (count, hidden size).
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

    /// Returns the logits (n, vocabulary) of hidden states (n, hidden size).
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.output.product(hidden)
    }

    /// Creates the step that evaluates `count` tokens at the positions from `start` on.
    fn step(&self, count: usize, start: usize) -> Result<Step> {
        let device = self.cache.device()?;
        let mask = |window| Mask::new(count, start, window, device);
        let windowed_mask = match self.window {
            Some(window) => mask(Some(window))?,
            None => Mask::without_values(None),
        };
        let full = mask(None)?;
        if device.is_cpu() {
            let (cos, sin) = self.rope.angles(start, count)?;
            return Ok(Step { start, cos, sin, position: None, mask: full, windowed_mask });
        }
        let position = Tensor::new(&[start as u32], device)?;
        Ok(self.step_on_device(start, position, full, windowed_mask))
    }

    /// Creates a step on a device, with the position of the first token in device memory.
    pub(super) fn step_on_device(
        &self,
        start: usize,
        position: Tensor,
        mask: Mask,
        windowed_mask: Mask,
    ) -> Step {
        let (cos, sin) = self.rope.tables();
        Step { start, cos, sin, position: Some(position), mask, windowed_mask }
    }
}

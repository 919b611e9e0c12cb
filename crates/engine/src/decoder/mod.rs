//! A decoder of the Llama family over resident weights: RMS norms, grouped-query attention with
//! optional bias, rotary positions, gated feed-forward networks or mixtures of them.
//!
//! Activations are f32, and nothing in a layer leaves its device. Knows no file, no tokenizer, no
//! protocol.

mod attention;
mod experts;
mod experts_on_device;
mod feed_forward;
mod kv_cache;
mod linear;
#[cfg(test)]
mod mutations;
mod rope;
mod single;

#[cfg(feature = "cuda")]
pub(crate) use experts_on_device::expert_product;
pub(crate) use kv_cache::{CacheError, KvCache};
pub(crate) use rope::{Layout, inverse_frequencies};

use crate::storage::Resident;
use attention::Attention;
use candle_core::{Device, Result, Tensor, bail};
use feed_forward::FeedForward;
use linear::Linear;
use modelgate_model::Config;
use rope::Rope;
use single::Single;
use std::collections::HashMap;

/// A decoder and what it remembers of the tokens so far.
pub(crate) struct Decoder {
    embedding: Resident,
    layers: Vec<Layer>,
    norm: Norm,
    output: Resident,
    rope: Rope,
    cache: KvCache,
    /// Positions that a token sees in the layers where that is limited.
    window: Option<usize>,
    /// What decodes tokens one by one on a device.
    single: Option<Single>,
}

struct Layer {
    /// Whether it sees no further back than the window.
    windowed: bool,
    attention_norm: Norm,
    attention: Attention,
    feed_forward_norm: Norm,
    feed_forward: FeedForward,
}

/// An RMS norm.
struct Norm {
    weight: Tensor,
    eps: f32,
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        candle_nn::ops::rms_norm(x, &self.weight, self.eps)
    }
}

/// What all layers of one step share: the positions' angles, and who may look at whom.
struct Step {
    start: usize,
    /// Angles of the tokens' positions; on a device those of all positions.
    cos: Tensor,
    sin: Tensor,
    /// Where the first token stands, in memory of the device; none on the CPU.
    position: Option<Tensor>,
    mask: Mask,
    /// The mask of layers that see no further back than the window.
    windowed: Mask,
}

/// Who may look at whom.
struct Mask {
    /// Positions that a token sees, its own among them; none where it sees all before it.
    window: Option<usize>,
    /// (n, all): 0 where a query may look at a key, negative infinity where not; none where it may
    /// always.
    tensor: Option<Tensor>,
}

impl Mask {
    /// The mask of `count` queries from position `start` on.
    fn new(count: usize, start: usize, window: Option<usize>, device: &Device) -> Result<Mask> {
        let tensor = mask(count, start, window)?;
        Ok(Mask { window, tensor: tensor.map(|mask| mask.to_device(device)).transpose()? })
    }
}

impl Decoder {
    /// Puts weights in their places; `frequencies` are RoPE's, one for each pair of a head.
    pub(crate) fn new(
        config: &Config,
        mut weights: HashMap<String, Resident>,
        frequencies: &[f32],
        layout: Layout,
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
            norm: norm(config, weights, &format!("{prefix}model.norm.weight"))?,
            output,
            rope: Rope::new(frequencies, cache.positions(), layout, cache.device()?)?,
            cache,
            window: config.sliding_window.as_ref().map(|window| window.positions),
            single: None,
        })
    }

    /// Positions that the cache holds at most.
    pub(crate) fn positions(&self) -> usize {
        self.cache.positions()
    }

    /// Forgets all tokens.
    pub(crate) fn reset(&mut self) {
        self.cache.reset();
    }

    /// Hidden states (n, width) after the last norm of tokens at positions `start` on. All
    /// positions before `start` must be in the cache. After each layer `advance` is told its share
    /// of the tokens: on a slow processor a long prompt takes minutes, and is no stall.
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

    /// Through all layers and the last norm; `done` is told the number of each layer.
    fn through(&self, mut x: Tensor, step: &Step, done: &dyn Fn(usize)) -> Result<Tensor> {
        for (number, (layer, memory)) in self.layers.iter().zip(self.cache.layers()).enumerate() {
            x = layer.forward(x, step, &self.rope, memory)?;
            done(number);
        }
        self.norm.forward(&x)
    }

    /// Evaluates `count` tokens at the last positions of the cache, whatever is before them.
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

    /// Logits (n, vocabulary) of hidden states.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.output.product(hidden)
    }

    fn step(&self, count: usize, start: usize) -> Result<Step> {
        let device = self.cache.device()?;
        let mask = |window| Mask::new(count, start, window, device);
        let windowed = match self.window {
            Some(window) => mask(Some(window))?,
            None => Mask { window: None, tensor: None },
        };
        let plain = mask(None)?;
        if device.is_cpu() {
            let (cos, sin) = self.rope.angles(start, count)?;
            return Ok(Step { start, cos, sin, position: None, mask: plain, windowed });
        }
        let position = Tensor::new(&[start as u32], device)?;
        Ok(self.step_on_device(start, position, plain, windowed))
    }

    fn step_on_device(&self, start: usize, position: Tensor, mask: Mask, windowed: Mask) -> Step {
        let (cos, sin) = self.rope.tables();
        Step { start, cos, sin, position: Some(position), mask, windowed }
    }
}

impl Layer {
    fn new(
        config: &Config,
        weights: &mut HashMap<String, Resident>,
        number: usize,
    ) -> Result<Layer> {
        let prefix = format!("{}model.layers.{number}.", config.prefix);
        let attention_norm = norm(config, weights, &format!("{prefix}input_layernorm.weight"))?;
        let feed_forward_norm =
            norm(config, weights, &format!("{prefix}post_attention_layernorm.weight"))?;
        Ok(Layer {
            windowed: config.window(number).is_some(),
            attention_norm,
            attention: Attention::new(config, weights, &format!("{prefix}self_attn."))?,
            feed_forward_norm,
            feed_forward: FeedForward::new(config, weights, &prefix)?,
        })
    }

    fn forward(
        &self,
        x: Tensor,
        step: &Step,
        rope: &Rope,
        memory: &kv_cache::LayerCache,
    ) -> Result<Tensor> {
        let normed = self.attention_norm.forward(&x)?;
        let mask = if self.windowed { &step.windowed } else { &step.mask };
        let x = (x + self.attention.forward(&normed, step, mask, rope, memory)?)?;
        let normed = self.feed_forward_norm.forward(&x)?;
        x + self.feed_forward.forward(&normed)?
    }
}

/// Takes a weight out of the map. Loading has checked that every one is there.
fn take(weights: &mut HashMap<String, Resident>, name: &str) -> Result<Resident> {
    match weights.remove(name) {
        Some(weight) => Ok(weight),
        None => bail!("weight {name} was not loaded"),
    }
}

fn norm(config: &Config, weights: &mut HashMap<String, Resident>, name: &str) -> Result<Norm> {
    Ok(Norm { weight: take(weights, name)?.float()?, eps: config.norm_eps as f32 })
}

/// The mask (count, start + count) of queries from position `start` on: a token looks at itself
/// and at those before it, no further back than the window. None where that forbids nothing.
fn mask(count: usize, start: usize, window: Option<usize>) -> Result<Option<Tensor>> {
    let keys = start + count;
    let window = window.unwrap_or(usize::MAX);
    if count == 1 && keys <= window {
        return Ok(None);
    }
    let allowed = |query: usize, key: usize| key <= query && query - key < window;
    let values: Vec<f32> = (start..keys)
        .flat_map(|query| (0..keys).map(move |key| (query, key)))
        .map(|(query, key)| if allowed(query, key) { 0.0 } else { f32::NEG_INFINITY })
        .collect();
    Tensor::from_vec(values, (count, keys), &Device::Cpu).map(Some)
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn a_window_limits_how_far_a_token_looks_back() {
        let shown = |count, start, window| {
            let mask = mask(count, start, window).expect("mask")?;
            let rows = mask.to_vec2::<f32>().expect("rows");
            let line =
                |row: Vec<f32>| row.iter().map(|v| if *v == 0.0 { 'x' } else { '.' }).collect();
            Some(rows.into_iter().map(line).collect::<Vec<String>>())
        };
        assert_eq!(shown(1, 3, None), None);
        assert_eq!(shown(1, 3, Some(4)), None);
        assert_eq!(shown(1, 3, Some(2)), Some(vec!["..xx".into()]));
        assert_eq!(shown(2, 1, None), Some(vec!["xx.".into(), "xxx".into()]));
        assert_eq!(shown(3, 0, Some(2)), Some(vec!["x..".into(), "xx.".into(), ".xx".into()]));
    }
}

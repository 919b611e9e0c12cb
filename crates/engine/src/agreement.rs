//! The first layers of a model on its device, held against the same layers on the CPU: that random
//! weights give numbers says little, that two implementations give the same ones says much.

use crate::decoder::{Decoder, KvCache, Layout};
use crate::fail;
use crate::load::Weights;
use crate::place::Place;
use candle_core::Result;
use modelgate_model::{COMPARED_LAYERS, Config, tensors};
use modelgate_protocol::{Agreement, Failure, Finite, Stage};

/// Tokens that go through them.
const TOKENS: u32 = 32;
/// Part of the tokens whose error is at most what is told. A token whose router is about to choose
/// either of two experts may choose otherwise here than there, and differs wholly without anything
/// being wrong; a wrong expert is met by more tokens than are left out.
const TOLD: f64 = 0.75;

/// The first layers of a model, its embedding and its output matrix.
pub(crate) struct Prefix {
    config: Config,
    weights: Weights,
    frequencies: Vec<f32>,
    layout: Layout,
}

impl Prefix {
    /// The prefix of a model; it shares the weights.
    pub(crate) fn of(
        config: &Config,
        weights: &Weights,
        frequencies: &[f32],
        layout: Layout,
    ) -> Prefix {
        let config = Config { layers: config.layers.min(COMPARED_LAYERS), ..config.clone() };
        let shared = |name: String| Some((name.clone(), weights.get(&name)?.clone()));
        let names = tensors(&config).into_iter().map(|tensor| tensor.name);
        Prefix {
            weights: names.filter_map(shared).collect(),
            frequencies: frequencies.to_vec(),
            layout,
            config,
        }
    }

    /// Evaluates a few tokens in both places.
    ///
    /// # Errors
    /// The engine fails.
    pub(crate) fn compare(&self, place: &Place) -> std::result::Result<Agreement, Failure> {
        let internal = fail::internal(Stage::Generate);
        let found = self.logits(self.weights.clone(), place).map_err(&internal)?;
        let on_host =
            self.weights.iter().map(|(name, weight)| Ok((name.clone(), weight.to_host()?)));
        let on_host = on_host.collect::<Result<Weights>>().map_err(&internal)?;
        let right = self.logits(on_host, &Place::Host).map_err(&internal)?;
        Ok(Agreement {
            layers: self.config.layers as u32,
            tokens: TOKENS,
            relative_error: Finite::new(told_error(&found, &right)),
        })
    }

    /// Logits of all tokens, one after the other.
    fn logits(&self, weights: Weights, place: &Place) -> Result<Vec<Vec<f32>>> {
        let cache = KvCache::new(&self.config, TOKENS as usize, &place.device());
        let cache = cache.map_err(|_| candle_core::Error::Msg("no memory for a cache".into()))?;
        let mut decoder =
            Decoder::new(&self.config, weights, &self.frequencies, self.layout, cache)?;
        let step = (self.config.vocab as u32 / TOKENS).max(1);
        let tokens: Vec<u32> =
            (0..TOKENS).map(|number| number * step % self.config.vocab.max(1) as u32).collect();
        let hidden = decoder.hidden(&tokens, 0, &|_| {})?;
        decoder.logits(&hidden)?.to_vec2()
    }
}

/// What the relative errors of so many tokens are at most; NaN where there is no telling.
fn told_error(found: &[Vec<f32>], right: &[Vec<f32>]) -> f64 {
    let mut errors: Vec<f64> = found.iter().zip(right).map(|(a, b)| relative_error(a, b)).collect();
    if errors.is_empty() || found.len() != right.len() || errors.iter().any(|e| e.is_nan()) {
        return f64::NAN;
    }
    errors.sort_by(f64::total_cmp);
    errors[((errors.len() - 1) as f64 * TOLD) as usize]
}

/// Norm of the difference over the norm of what is right.
fn relative_error(found: &[f32], right: &[f32]) -> f64 {
    let square = |value: f64| value * value;
    let pairs = found.iter().zip(right);
    let difference: f64 = pairs.map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let norm: f64 = right.iter().map(|value| square(f64::from(*value))).sum();
    if found.len() == right.len() { (difference / norm).sqrt() } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::told_error;

    #[test]
    fn a_few_tokens_may_differ_and_not_many() {
        let right = vec![vec![1.0f32, 2.0, 3.0]; 32];
        let with_wrong = |count: usize| {
            let mut found = right.clone();
            found[..count].fill(vec![3.0, -2.0, 1.0]);
            found
        };
        assert_eq!(told_error(&with_wrong(0), &right), 0.0);
        assert_eq!(told_error(&with_wrong(4), &right), 0.0);
        assert!(told_error(&with_wrong(12), &right) > 0.5);
        assert!(told_error(&[vec![f32::NAN]], &[vec![1.0]]).is_nan());
        assert!(told_error(&right[..3], &right).is_nan());
    }
}

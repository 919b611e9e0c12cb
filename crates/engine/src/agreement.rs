//! The first layers of a model on its device, held against the same layers on the CPU: that random
//! weights give numbers says little, that two implementations give the same ones says much.

use crate::decoder::{Decoder, KvCache, Layout};
use crate::fail;
use crate::load::Weights;
use crate::place::Place;
use candle_core::Result;
use modelgate_model::{COMPARED_LAYERS, Config, tensors};
use modelgate_protocol::{Agreement, Failure, Finite, Stage};

/// Tokens that go through them at once, and after them one by one: on a device these are kernels of
/// their own.
const AT_ONCE: usize = 24;
const ONE_BY_ONE: usize = 24;
/// Part of a mixture of experts' tokens whose error is at most what is told. A token whose router is
/// about to choose either of two experts may choose otherwise here than there, and differs wholly
/// without anything being wrong; a wrong expert is met by more tokens than are left out.
const TOLD_OF_EXPERTS: f64 = 0.75;

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
        let told = if self.config.experts.is_some() { TOLD_OF_EXPERTS } else { 1.0 };
        let part = |range: std::ops::Range<usize>| {
            told_error(found.get(range.clone()), right.get(range), told)
        };
        let error = part(0..AT_ONCE).max(part(AT_ONCE..AT_ONCE + ONE_BY_ONE));
        Ok(Agreement {
            layers: self.config.layers as u32,
            tokens: (AT_ONCE + ONE_BY_ONE) as u32,
            relative_error: Finite::new(error),
        })
    }

    /// Logits of all tokens.
    fn logits(&self, weights: Weights, place: &Place) -> Result<Vec<Vec<f32>>> {
        let count = AT_ONCE + ONE_BY_ONE;
        let cache = KvCache::new(&self.config, count, &place.device());
        let cache = cache.map_err(|error| candle_core::Error::Msg(format!("{error:?}")))?;
        let mut decoder =
            Decoder::new(&self.config, weights, &self.frequencies, self.layout, cache)?;
        let vocabulary = self.config.vocab.max(1);
        let step = (vocabulary / count).max(1);
        let tokens: Vec<u32> =
            (0..count).map(|number| (number * step % vocabulary) as u32).collect();
        let at_once = if decoder.has_single_steps() { AT_ONCE } else { count };
        let hidden = decoder.hidden(&tokens[..at_once], 0, &|_| {})?;
        let mut logits: Vec<Vec<f32>> = decoder.logits(&hidden)?.to_vec2()?;
        for (position, token) in tokens.iter().enumerate().skip(at_once) {
            logits.extend(decoder.next(*token, position)?.to_vec2::<f32>()?);
        }
        Ok(logits)
    }
}

/// What the relative errors of the part `told` of some tokens are at most; infinite where there is
/// no telling.
fn told_error(found: Option<&[Vec<f32>]>, right: Option<&[Vec<f32>]>, told: f64) -> f64 {
    let (Some(found), Some(right)) = (found, right) else { return f64::INFINITY };
    let mut errors: Vec<f64> = found.iter().zip(right).map(|(a, b)| relative_error(a, b)).collect();
    let whole = !errors.is_empty() && found.len() == right.len();
    if !whole || errors.iter().any(|error| !error.is_finite()) {
        return f64::INFINITY;
    }
    errors.sort_by(f64::total_cmp);
    errors[((errors.len() - 1) as f64 * told) as usize]
}

/// Norm of the difference over the norm of what is right; NaN where there are not as many of both.
pub(crate) fn relative_error<T: Copy + Into<f64>>(found: &[f32], right: &[T]) -> f64 {
    let square = |value: f64| value * value;
    let pairs = found.iter().zip(right);
    let difference: f64 = pairs.map(|(a, b)| square(f64::from(*a) - (*b).into())).sum();
    let norm: f64 = right.iter().map(|value| square((*value).into())).sum();
    if found.len() == right.len() { (difference / norm).sqrt() } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::told_error;

    #[test]
    fn a_few_tokens_of_experts_may_differ_and_none_of_others() {
        let right = vec![vec![1.0f32, 2.0, 3.0]; 32];
        let error = |wrong: usize, told| {
            let mut found = right.clone();
            found[..wrong].fill(vec![3.0, -2.0, 1.0]);
            told_error(Some(&found), Some(&right), told)
        };
        assert_eq!(error(0, 1.0), 0.0);
        assert!(error(1, 1.0) > 0.5);
        assert_eq!(error(4, 0.75), 0.0);
        assert!(error(12, 0.75) > 0.5);
    }

    #[test]
    fn what_cannot_be_compared_is_no_agreement() {
        let right = [vec![1.0f32], vec![2.0]];
        let with = |value: f32| [vec![value], vec![2.0]];
        let (not_a_number, infinite) = (with(f32::NAN), with(f32::INFINITY));
        for found in [&[][..], &right[..1], &not_a_number, &infinite] {
            assert_eq!(told_error(Some(found), Some(&right), 0.75), f64::INFINITY);
        }
        assert_eq!(told_error(None, Some(&right), 1.0), f64::INFINITY);
    }
}

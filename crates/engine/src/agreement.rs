//! Compares the first layers of a model on its device with the same layers on the CPU. For random
//! weights, finite outputs are weak evidence of a correct evaluation. Equal outputs of two
//! implementations are strong evidence.

use crate::compute_device::ComputeDevice;
use crate::decoder::{Decoder, KvCache};
use crate::failures;
use crate::numeric::relative_error;
use crate::weights::{RopeLayout, WeightMap};
use candle_core::Result;
use modelgate_model::{COMPARED_LAYERS, Config, tensors};
use modelgate_protocol::{Agreement, Failure, Finite, Stage};

/// The number of tokens that are evaluated in one batch.
const BATCH_TOKENS: usize = 24;
/// The number of tokens that are evaluated one by one after the batch. A device has separate
/// kernels for single tokens.
const SINGLE_TOKENS: usize = 24;
/// The quantile of the errors per token that is reported for a mixture of experts. If the router
/// scores two experts almost equally, the device may select the other expert for a token. The
/// output for this token then differs completely without a defect. A defective expert affects more
/// tokens than the quantile excludes.
const EXPERTS_QUANTILE: f64 = 0.75;

/// The first layers of a model with its embedding and its output matrix.
pub(crate) struct FirstLayers {
    config: Config,
    weights: WeightMap,
    frequencies: Vec<f32>,
    layout: RopeLayout,
}

impl FirstLayers {
    /// Returns the first layers of a model. The weights are shared with the model, not copied.
    pub(crate) fn of(
        config: &Config,
        weights: &WeightMap,
        frequencies: &[f32],
        layout: RopeLayout,
    ) -> FirstLayers {
        let config = Config { layers: config.layers.min(COMPARED_LAYERS), ..config.clone() };
        let shared_weight = |name: String| Some((name.clone(), weights.get(&name)?.clone()));
        let names = tensors(&config).into_iter().map(|tensor| tensor.name);
        FirstLayers {
            weights: names.filter_map(shared_weight).collect(),
            frequencies: frequencies.to_vec(),
            layout,
            config,
        }
    }

    /// Evaluates the same tokens on `device` and on the CPU, and returns how much the logits
    /// differ.
    ///
    /// # Errors
    /// The engine fails on one of the devices, or memory cannot be allocated.
    pub(crate) fn compare(
        &self,
        device: &ComputeDevice,
    ) -> std::result::Result<Agreement, Failure> {
        let internal = failures::internal(Stage::Generate);
        let found = self.logits(self.weights.clone(), device).map_err(&internal)?;
        let on_host =
            self.weights.iter().map(|(name, weight)| Ok((name.clone(), weight.to_host()?)));
        let on_host = on_host.collect::<Result<WeightMap>>().map_err(&internal)?;
        let expected = self.logits(on_host, &ComputeDevice::Cpu).map_err(&internal)?;
        let quantile = if self.config.experts.is_some() { EXPERTS_QUANTILE } else { 1.0 };
        let part_error = |range: std::ops::Range<usize>| {
            agreement_error(found.get(range.clone()), expected.get(range), quantile)
        };
        let error =
            part_error(0..BATCH_TOKENS).max(part_error(BATCH_TOKENS..BATCH_TOKENS + SINGLE_TOKENS));
        Ok(Agreement {
            layers: self.config.layers as u32,
            tokens: (BATCH_TOKENS + SINGLE_TOKENS) as u32,
            relative_error: Finite::new(error),
        })
    }

    /// Evaluates the test tokens on `device`, and returns their logits: one row for each token.
    fn logits(&self, weights: WeightMap, device: &ComputeDevice) -> Result<Vec<Vec<f32>>> {
        let count = BATCH_TOKENS + SINGLE_TOKENS;
        let cache = KvCache::new(&self.config, count, &device.candle());
        let cache = cache.map_err(|error| candle_core::Error::Msg(format!("{error:?}")))?;
        let mut decoder =
            Decoder::new(&self.config, weights, &self.frequencies, self.layout, cache)?;
        let vocabulary = self.config.vocab.max(1);
        let step = (vocabulary / count).max(1);
        let tokens: Vec<u32> =
            (0..count).map(|number| (number * step % vocabulary) as u32).collect();
        let batch = if decoder.supports_single_tokens() { BATCH_TOKENS } else { count };
        let hidden = decoder.hidden(&tokens[..batch], 0, &|_| {})?;
        let mut logits: Vec<Vec<f32>> = decoder.logits(&hidden)?.to_vec2()?;
        for (position, token) in tokens.iter().enumerate().skip(batch) {
            logits.extend(decoder.next(*token, position)?.to_vec2::<f32>()?);
        }
        Ok(logits)
    }
}

/// Returns a quantile of the relative errors per token. It is infinite if an error is not finite,
/// if the numbers of tokens differ, or if there are no tokens.
fn agreement_error(
    found: Option<&[Vec<f32>]>,
    expected: Option<&[Vec<f32>]>,
    quantile: f64,
) -> f64 {
    let (Some(found), Some(expected)) = (found, expected) else { return f64::INFINITY };
    let mut errors: Vec<f64> =
        found.iter().zip(expected).map(|(a, b)| relative_error(a, b)).collect();
    let complete = !errors.is_empty() && found.len() == expected.len();
    if !complete || errors.iter().any(|error| !error.is_finite()) {
        return f64::INFINITY;
    }
    errors.sort_by(f64::total_cmp);
    errors[((errors.len() - 1) as f64 * quantile) as usize]
}

#[cfg(test)]
mod tests {
    use super::agreement_error;

    #[test]
    fn a_quantile_below_one_tolerates_a_few_different_tokens() {
        let right = vec![vec![1.0f32, 2.0, 3.0]; 32];
        let error = |wrong: usize, quantile| {
            let mut found = right.clone();
            found[..wrong].fill(vec![3.0, -2.0, 1.0]);
            agreement_error(Some(&found), Some(&right), quantile)
        };
        assert_eq!(error(0, 1.0), 0.0);
        assert!(error(1, 1.0) > 0.5);
        assert_eq!(error(4, 0.75), 0.0);
        assert!(error(12, 0.75) > 0.5);
    }

    #[test]
    fn incomparable_logits_have_an_infinite_error() {
        let right = [vec![1.0f32], vec![2.0]];
        let with = |value: f32| [vec![value], vec![2.0]];
        let (not_a_number, infinite) = (with(f32::NAN), with(f32::INFINITY));
        for found in [&[][..], &right[..1], &not_a_number, &infinite] {
            assert_eq!(agreement_error(Some(found), Some(&right), 0.75), f64::INFINITY);
        }
        assert_eq!(agreement_error(None, Some(&right), 1.0), f64::INFINITY);
    }
}

//! Compares the first layers of a model on its device with the same layers on the CPU: that random
//! weights give numbers says little, that two implementations give the same ones says much.

use crate::compute_device::ComputeDevice;
use crate::decoder::{Decoder, KvCache};
use crate::failures;
use crate::numeric::relative_error;
use crate::weights::{RopeLayout, WeightMap};
use candle_core::Result;
use modelgate_model::{COMPARED_LAYERS, Config, tensors};
use modelgate_protocol::{Agreement, Failure, Finite, Stage};

/// Tokens that are evaluated at once, and after them one by one: a device has other kernels for
/// these.
const AT_ONCE: usize = 24;
const ONE_BY_ONE: usize = 24;
/// The quantile of the tokens' errors that is reported for a mixture of experts. A token whose router
/// almost equally prefers two experts may go to another one on the device, and differs wholly without
/// a defect; a defective expert is used by more tokens than the quantile leaves out.
const EXPERTS_QUANTILE: f64 = 0.75;

/// The first layers of a model, its embedding and its output matrix.
pub(crate) struct Prefix {
    config: Config,
    weights: WeightMap,
    frequencies: Vec<f32>,
    layout: RopeLayout,
}

impl Prefix {
    /// Returns the prefix of a model, which shares the weights.
    pub(crate) fn of(
        config: &Config,
        weights: &WeightMap,
        frequencies: &[f32],
        layout: RopeLayout,
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

    /// Evaluates a few tokens on both devices.
    ///
    /// # Errors
    /// The engine fails.
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
        let part = |range: std::ops::Range<usize>| {
            agreement_error(found.get(range.clone()), expected.get(range), quantile)
        };
        let error = part(0..AT_ONCE).max(part(AT_ONCE..AT_ONCE + ONE_BY_ONE));
        Ok(Agreement {
            layers: self.config.layers as u32,
            tokens: (AT_ONCE + ONE_BY_ONE) as u32,
            relative_error: Finite::new(error),
        })
    }

    /// Returns the logits of all tokens.
    fn logits(&self, weights: WeightMap, device: &ComputeDevice) -> Result<Vec<Vec<f32>>> {
        let count = AT_ONCE + ONE_BY_ONE;
        let cache = KvCache::new(&self.config, count, &device.candle());
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

/// Returns a quantile of the relative errors of some tokens; infinite if an error is not finite or the
/// tokens differ in number.
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
    fn a_few_tokens_of_experts_may_differ_and_none_of_others() {
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
    fn what_cannot_be_compared_is_no_agreement() {
        let right = [vec![1.0f32], vec![2.0]];
        let with = |value: f32| [vec![value], vec![2.0]];
        let (not_a_number, infinite) = (with(f32::NAN), with(f32::INFINITY));
        for found in [&[][..], &right[..1], &not_a_number, &infinite] {
            assert_eq!(agreement_error(Some(found), Some(&right), 0.75), f64::INFINITY);
        }
        assert_eq!(agreement_error(None, Some(&right), 1.0), f64::INFINITY);
    }
}

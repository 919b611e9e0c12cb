//! Rotary position embedding (RoPE: Su et al., 2021, arXiv:2104.09864), for both layouts of a head.

use crate::weights::RopeLayout;
use candle_core::{Device, Result, Tensor};
use modelgate_model::{Config, RopeScaling};

/// The tables of cosines and sines (positions, pairs of a head), and the layout of the pairs.
pub(super) struct Rope {
    cos: Tensor,
    sin: Tensor,
    layout: RopeLayout,
}

/// Returns the angle in radians by which each pair of a head rotates from one position to the next.
///
/// `factors`, if a file contains them, divide the frequencies and replace the scaling of the
/// config. Exponents and frequencies are rounded to f32 like in the reference implementation, with
/// which the weights were trained. If the width of a head is not a power of two, the rounding of an
/// exponent alone rotates a head by 1e-4 at 300 positions.
pub(crate) fn inverse_frequencies(config: &Config, factors: Option<&[f32]>) -> Vec<f32> {
    let pairs = config.head_dim / 2;
    let unscaled = |pair: usize| {
        let exponent = 2.0 * pair as f32 / config.head_dim as f32;
        let power = config.rope.theta.powf(f64::from(exponent)) as f32;
        f64::from(1.0 / power)
    };
    let frequency = |pair: usize| match (factors, config.rope.scaling) {
        (Some(factors), _) => unscaled(pair) / factors.get(pair).map_or(1.0, |f| f64::from(*f)),
        (None, Some(scaling)) => scaled(unscaled(pair), scaling),
        (None, None) => unscaled(pair),
    };
    (0..pairs).map(|pair| frequency(pair) as f32).collect()
}

/// Applies `llama3` scaling to a frequency: stretches long wavelengths, leaves short wavelengths
/// unchanged, and interpolates between the two in the range between them.
fn scaled(frequency: f64, scaling: RopeScaling) -> f64 {
    let wavelength = std::f64::consts::TAU / frequency;
    if wavelength > scaling.original_context / scaling.low_freq_factor {
        return frequency / scaling.factor;
    }
    if wavelength < scaling.original_context / scaling.high_freq_factor {
        return frequency;
    }
    let smooth = (scaling.original_context / wavelength - scaling.low_freq_factor)
        / (scaling.high_freq_factor - scaling.low_freq_factor);
    (1.0 - smooth) * frequency / scaling.factor + smooth * frequency
}

impl Rope {
    /// Computes the tables for the positions 0 to `positions` - 1 on `device`.
    pub(super) fn new(
        frequencies: &[f32],
        positions: usize,
        layout: RopeLayout,
        device: &Device,
    ) -> Result<Rope> {
        let table = |function: fn(f64) -> f64| {
            let values: Vec<f32> = (0..positions)
                .flat_map(|position| frequencies.iter().map(move |f| position as f32 * f))
                .map(|angle| function(f64::from(angle)) as f32)
                .collect();
            Tensor::from_vec(values, (positions, frequencies.len()), device)
        };
        Ok(Rope { cos: table(f64::cos)?, sin: table(f64::sin)?, layout })
    }

    /// Returns the cosines and sines of all positions, both (positions, pairs of a head).
    pub(super) fn tables(&self) -> (Tensor, Tensor) {
        (self.cos.clone(), self.sin.clone())
    }

    /// Returns whether the values 2 i and 2 i + 1 of a head are a pair.
    pub(super) fn is_interleaved(&self) -> bool {
        self.layout == RopeLayout::Interleaved
    }

    /// Returns the cosines and sines of `count` positions from `start` on, both (count, pairs of a
    /// head).
    pub(super) fn angles(&self, start: usize, count: usize) -> Result<(Tensor, Tensor)> {
        // copied, because not every kernel supports a tensor with an offset in its storage
        let part = |table: &Tensor| table.narrow(0, start, count)?.force_contiguous();
        Ok((part(&self.cos)?, part(&self.sin)?))
    }

    /// Rotates `heads` (heads, n, width) by the angles of their positions, and returns the same
    /// shape.
    pub(super) fn rotate(&self, heads: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let batch = heads.contiguous()?.unsqueeze(0)?;
        match self.layout {
            RopeLayout::Halves => candle_nn::rotary_emb::rope(&batch, cos, sin),
            RopeLayout::Interleaved => candle_nn::rotary_emb::rope_i(&batch, cos, sin),
        }?
        .squeeze(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frequencies of Llama 3.1 70B by the number of the pair, with short, medium and long
    /// wavelengths. Computed in f32 by `_compute_llama3_parameters` of transformers 4.57.
    const REFERENCE: [(usize, f64); 7] = [
        (0, 1.0),
        (20, 0.016560440883040428),
        (28, 0.0032114461064338684),
        (32, 0.0005248460220173001),
        (35, 9.556212171446532e-05),
        (40, 3.428102354519069e-05),
        (63, 3.068925877869333e-07),
    ];

    fn llama() -> Config {
        let text = r#"{
            "model_type": "llama", "num_hidden_layers": 80, "hidden_size": 8192,
            "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 28672,
            "vocab_size": 128256, "max_position_embeddings": 131072, "rope_theta": 500000.0,
            "rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192
            }
        }"#;
        Config::from_json(text).expect("a valid config")
    }

    #[test]
    fn llama3_scaling_agrees_with_the_reference() {
        let found = inverse_frequencies(&llama(), None);
        assert_eq!(found.len(), 64);
        for (pair, expected) in REFERENCE {
            let relative = (f64::from(found[pair]) / expected - 1.0).abs();
            assert!(relative < 1e-6, "{pair}: {}, expected {expected}", found[pair]);
        }
    }

    #[test]
    fn factors_of_a_file_replace_the_scaling_of_the_config() {
        let mut factors = vec![1.0; 64];
        factors[63] = 8.0;
        let found = inverse_frequencies(&llama(), Some(&factors));
        assert!((f64::from(found[63]) / REFERENCE[6].1 - 1.0).abs() < 1e-6, "{}", found[63]);
        assert!((found[32] / 500_000f32.powf(-0.5) - 1.0).abs() < 1e-6, "{}", found[32]);
    }
}

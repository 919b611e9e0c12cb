//! RMS norms (Zhang and Sennrich, 2019, arXiv:1910.07467).

use crate::weights::{WeightMap, take};
use candle_core::{Result, Tensor};
use modelgate_model::Config;

/// An RMS norm with a weight for each value of a row.
pub(super) struct Norm {
    /// The weight (hidden size).
    pub(super) weight: Tensor,
    /// The value that is added to the mean square.
    pub(super) eps: f32,
}

impl Norm {
    /// Creates the norm; removes the weight `name` from `weights`.
    pub(super) fn new(config: &Config, weights: &mut WeightMap, name: &str) -> Result<Norm> {
        Ok(Norm { weight: take(weights, name)?.float()?, eps: config.norm_eps as f32 })
    }

    /// Normalises each row of `x` (n, hidden size).
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        candle_nn::ops::rms_norm(x, &self.weight, self.eps)
    }
}

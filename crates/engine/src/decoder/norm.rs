//! RMS norms (Zhang and Sennrich, 2019, arXiv:1910.07467).

use crate::weights::{WeightMap, take};
use candle_core::{Result, Tensor};
use modelgate_model::Config;

/// An RMS norm.
pub(super) struct Norm {
    pub(super) weight: Tensor,
    pub(super) eps: f32,
}

impl Norm {
    /// Takes the weight `name`.
    pub(super) fn new(config: &Config, weights: &mut WeightMap, name: &str) -> Result<Norm> {
        Ok(Norm { weight: take(weights, name)?.float()?, eps: config.norm_eps as f32 })
    }

    /// Normalises each row of `x`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        candle_nn::ops::rms_norm(x, &self.weight, self.eps)
    }
}

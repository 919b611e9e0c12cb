//! A matrix with an optional bias.

use crate::weights::{Resident, WeightMap, take};
use candle_core::{Result, Tensor};

/// `x` times the weight transposed, plus the bias.
pub(super) struct Linear {
    weight: Resident,
    bias: Option<Tensor>,
}

impl Linear {
    /// Takes `NAME.weight`, and `NAME.bias` if `biased`.
    pub(super) fn new(weights: &mut WeightMap, name: &str, biased: bool) -> Result<Linear> {
        let weight = take(weights, &format!("{name}.weight"))?;
        let bias =
            if biased { Some(take(weights, &format!("{name}.bias"))?.float()?) } else { None };
        Ok(Linear { weight, bias })
    }

    /// Returns the matrix.
    pub(super) fn weight(&self) -> &Resident {
        &self.weight
    }

    /// Maps rows of `x` (n, in) to rows (n, out).
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let product = self.weight.product(x)?;
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}

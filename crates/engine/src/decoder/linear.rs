//! A matrix with an optional bias.

use crate::weights::{ResidentTensor, WeightMap, take};
use candle_core::{Result, Tensor};

/// A linear map: `x` times the transposed weight, plus the bias if there is one.
pub(super) struct Linear {
    /// The matrix (out, in).
    weight: ResidentTensor,
    /// The bias (out); `None` if the map has none.
    bias: Option<Tensor>,
}

impl Linear {
    /// Creates the map; removes `NAME.weight`, and `NAME.bias` if `biased`, from `weights`.
    pub(super) fn new(weights: &mut WeightMap, name: &str, biased: bool) -> Result<Linear> {
        let weight = take(weights, &format!("{name}.weight"))?;
        let bias =
            if biased { Some(take(weights, &format!("{name}.bias"))?.float()?) } else { None };
        Ok(Linear { weight, bias })
    }

    /// Returns the matrix (out, in).
    pub(super) fn weight(&self) -> &ResidentTensor {
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

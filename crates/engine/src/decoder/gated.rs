//! The gated feed-forward network (SwiGLU: Shazeer, 2020, arXiv:2002.05202).

use super::linear::Linear;
use crate::weights::WeightMap;
use candle_core::{Result, Tensor};

/// down(silu(gate(x)) * up(x)).
pub(super) struct Gated {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Gated {
    /// Takes gate, up and down by these names.
    pub(super) fn new(
        weights: &mut WeightMap,
        prefix: &str,
        [gate, up, down]: [&str; 3],
    ) -> Result<Gated> {
        let mut linear = |name| Linear::new(weights, &format!("{prefix}{name}"), false);
        Ok(Gated { gate: linear(gate)?, up: linear(up)?, down: linear(down)? })
    }

    /// Returns the matrix whose product decides how much passes.
    pub(super) fn gate(&self) -> &Linear {
        &self.gate
    }

    /// Returns the matrix to the inner width.
    pub(super) fn up(&self) -> &Linear {
        &self.up
    }

    /// Returns the matrix back to the outer width.
    pub(super) fn down(&self) -> &Linear {
        &self.down
    }

    /// Maps rows of `x` (n, width) to rows of the same width.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gate = self.gate.forward(x)?.silu()?;
        let wide = (gate * self.up.forward(x)?)?;
        self.down.forward(&wide)
    }
}

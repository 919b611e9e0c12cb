//! The gated feed-forward network (SwiGLU: Shazeer, 2020, arXiv:2002.05202).

use super::linear::Linear;
use crate::weights::WeightMap;
use candle_core::{Result, Tensor};

/// A gated feed-forward network: down(silu(gate(x)) * up(x)).
pub(super) struct GatedNetwork {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl GatedNetwork {
    /// Creates the network; removes the matrices with these names after `prefix` from `weights`.
    pub(super) fn new(
        weights: &mut WeightMap,
        prefix: &str,
        [gate, up, down]: [&str; 3],
    ) -> Result<GatedNetwork> {
        let mut linear = |name| Linear::new(weights, &format!("{prefix}{name}"), false);
        Ok(GatedNetwork { gate: linear(gate)?, up: linear(up)?, down: linear(down)? })
    }

    /// Returns the gate matrix (inner size, hidden size), whose product passes through SiLU and
    /// scales the product of the up matrix.
    pub(super) fn gate(&self) -> &Linear {
        &self.gate
    }

    /// Returns the up matrix (inner size, hidden size).
    pub(super) fn up(&self) -> &Linear {
        &self.up
    }

    /// Returns the down matrix (hidden size, inner size).
    pub(super) fn down(&self) -> &Linear {
        &self.down
    }

    /// Evaluates the network on `x` (n, hidden size), and returns a tensor of the same shape.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gate = self.gate.forward(x)?.silu()?;
        let inner = (gate * self.up.forward(x)?)?;
        self.down.forward(&inner)
    }
}

//! The gated feed-forward network (SwiGLU: Shazeer, 2020, arXiv:2002.05202).

use super::Linear;
use crate::storage::Resident;
use candle_core::{Result, Tensor};
use std::collections::HashMap;

/// down(silu(gate(x)) * up(x)).
pub(super) struct FeedForward {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl FeedForward {
    /// Takes the three matrices whose names begin with `prefix`.
    pub(super) fn new(
        weights: &mut HashMap<String, Resident>,
        prefix: &str,
    ) -> Result<FeedForward> {
        let mut linear = |name| Linear::new(weights, &format!("{prefix}{name}"), false);
        Ok(FeedForward {
            gate: linear("gate_proj")?,
            up: linear("up_proj")?,
            down: linear("down_proj")?,
        })
    }

    /// Rows of `x` (n, width) to rows of the same width.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gate = self.gate.forward(x)?.silu()?;
        let wide = (gate * self.up.forward(x)?)?;
        self.down.forward(&wide)
    }
}

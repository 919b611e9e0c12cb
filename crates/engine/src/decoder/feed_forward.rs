//! The gated feed-forward network (SwiGLU: Shazeer, 2020, arXiv:2002.05202), alone or as one of a
//! mixture of experts.

use super::Linear;
use super::experts::MixtureOfExperts;
use crate::storage::Resident;
use candle_core::{Result, Tensor};
use modelgate_model::Config;
use std::collections::HashMap;

/// What a layer has after its attention.
pub(super) enum FeedForward {
    /// One network.
    Dense(Gated),
    /// Several, of which a token goes through a few.
    Experts(MixtureOfExperts),
}

impl FeedForward {
    /// Takes the matrices of the layer whose names begin with `prefix`.
    pub(super) fn new(
        config: &Config,
        weights: &mut HashMap<String, Resident>,
        prefix: &str,
    ) -> Result<FeedForward> {
        match config.experts {
            None => {
                let names = ["gate_proj", "up_proj", "down_proj"];
                Gated::new(weights, &format!("{prefix}mlp."), names).map(FeedForward::Dense)
            }
            Some(experts) => {
                let prefix = format!("{prefix}block_sparse_moe.");
                MixtureOfExperts::new(experts, weights, &prefix).map(FeedForward::Experts)
            }
        }
    }

    /// Rows of `x` (n, width) to rows of the same width.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            FeedForward::Dense(network) => network.forward(x),
            FeedForward::Experts(experts) => experts.forward(x),
        }
    }
}

/// down(silu(gate(x)) * up(x)).
pub(super) struct Gated {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Gated {
    /// Takes gate, up and down by these names.
    pub(super) fn new(
        weights: &mut HashMap<String, Resident>,
        prefix: &str,
        [gate, up, down]: [&str; 3],
    ) -> Result<Gated> {
        let mut linear = |name| Linear::new(weights, &format!("{prefix}{name}"), false);
        Ok(Gated { gate: linear(gate)?, up: linear(up)?, down: linear(down)? })
    }

    pub(super) fn gate(&self) -> &Linear {
        &self.gate
    }

    pub(super) fn up(&self) -> &Linear {
        &self.up
    }

    pub(super) fn down(&self) -> &Linear {
        &self.down
    }

    /// Rows of `x` (n, width) to rows of the same width.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gate = self.gate.forward(x)?.silu()?;
        let wide = (gate * self.up.forward(x)?)?;
        self.down.forward(&wide)
    }
}

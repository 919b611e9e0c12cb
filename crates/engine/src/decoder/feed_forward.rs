//! The feed-forward part of a layer: one network, or a mixture of experts.

use super::experts::MixtureOfExperts;
use super::gated::Gated;
use crate::weights::WeightMap;
use candle_core::{Result, Tensor};
use modelgate_model::Config;

/// The feed-forward part of a layer.
pub(super) enum FeedForward {
    /// One network.
    Dense(Gated),
    /// Several networks, of which a token goes through a few.
    Experts(MixtureOfExperts),
}

impl FeedForward {
    /// Takes the matrices of the layer whose names begin with `prefix`.
    pub(super) fn new(
        config: &Config,
        weights: &mut WeightMap,
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

    /// Maps rows of `x` (n, width) to rows of the same width.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            FeedForward::Dense(network) => network.forward(x),
            FeedForward::Experts(experts) => experts.forward(x),
        }
    }
}

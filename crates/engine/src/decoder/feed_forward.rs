//! The feed-forward part of a layer: one network, or a mixture of experts.

use super::experts::MixtureOfExperts;
use super::gated::GatedNetwork;
use crate::weights::WeightMap;
use candle_core::{Result, Tensor};
use modelgate_model::Config;

/// The feed-forward part of a layer, dense or a mixture of experts.
pub(super) enum FeedForward {
    /// One network that evaluates every token.
    Dense(GatedNetwork),
    /// Several networks, a few of which evaluate each token.
    Experts(MixtureOfExperts),
}

impl FeedForward {
    /// Creates the feed-forward part of a layer; removes its matrices, whose names begin with
    /// `prefix`, from `weights`.
    pub(super) fn new(
        config: &Config,
        weights: &mut WeightMap,
        prefix: &str,
    ) -> Result<FeedForward> {
        match config.experts {
            None => {
                let names = ["gate_proj", "up_proj", "down_proj"];
                GatedNetwork::new(weights, &format!("{prefix}mlp."), names).map(FeedForward::Dense)
            }
            Some(experts) => {
                let prefix = format!("{prefix}block_sparse_moe.");
                MixtureOfExperts::new(experts, weights, &prefix).map(FeedForward::Experts)
            }
        }
    }

    /// Evaluates the part on `x` (n, hidden size), and returns a tensor of the same shape.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            FeedForward::Dense(network) => network.forward(x),
            FeedForward::Experts(experts) => experts.forward(x),
        }
    }
}

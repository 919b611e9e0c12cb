//! A mixture of experts (Jiang et al., 2024, arXiv:2401.04088): a router chooses a few networks for
//! each token, and their results are weighted by the router's softmax.
//!
//! On the CPU each expert is evaluated once for all its tokens, so that its weights are read once.

use super::device_experts::{FEW_TOKENS, MergedExperts, all_experts, choose};
use super::gated::Gated;
use super::linear::Linear;
use crate::weights::{Resident, WeightMap, whole_tensor};
use candle_core::{Result, Tensor, bail};
use modelgate_model::Experts;
use std::sync::Arc;

/// The experts of one layer and their router.
pub(super) struct MixtureOfExperts {
    router: Linear,
    experts: Vec<Gated>,
    /// The experts as one tensor for each matrix, if they are so in memory.
    merged: Option<Arc<MergedExperts>>,
    per_token: usize,
    renormalised: bool,
}

/// The tokens that go to one expert, and the weight of its result for each.
#[derive(Debug, Clone, Default, PartialEq)]
struct Share {
    tokens: Vec<u32>,
    weights: Vec<f32>,
}

impl MixtureOfExperts {
    /// Takes router and experts, whose names begin with `prefix`.
    pub(super) fn new(
        config: Experts,
        weights: &mut WeightMap,
        prefix: &str,
    ) -> Result<MixtureOfExperts> {
        let router = Linear::new(weights, &format!("{prefix}gate"), false)?;
        let experts = (0..config.count)
            .map(|number| {
                Gated::new(weights, &format!("{prefix}experts.{number}."), ["w1", "w3", "w2"])
            })
            .collect::<Result<Vec<_>>>()?;
        let Experts { count, per_token, renormalised } = config;
        if per_token == 0 || per_token > count {
            bail!("{per_token} of {count} experts for a token")
        }
        let merged = merged(&experts).map(Arc::new);
        Ok(MixtureOfExperts { router, experts, merged, per_token, renormalised })
    }

    /// Maps rows of `x` (n, width) to rows of the same width.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let logits = self.router.forward(x)?;
        if x.device().is_cuda() {
            let (chosen, weights) = choose(&logits, self.per_token, self.renormalised)?;
            let few = x.dim(0)? <= FEW_TOKENS;
            return match &self.merged {
                Some(experts) if few => experts.forward(x, &chosen, &weights),
                _ => all_experts(&self.experts, x, &chosen, &weights),
            };
        }
        let logits = logits.to_vec2::<f32>()?;
        let shares = shares(&logits, self.per_token, self.renormalised);
        let mut sum = x.zeros_like()?;
        for (expert, share) in self.experts.iter().zip(shares) {
            if share.tokens.is_empty() {
                continue;
            }
            let count = share.tokens.len();
            let tokens = Tensor::from_vec(share.tokens, count, x.device())?;
            let weights = Tensor::from_vec(share.weights, (count, 1), x.device())?;
            let result = expert.forward(&x.index_select(&tokens, 0)?)?.broadcast_mul(&weights)?;
            sum = sum.index_add(&tokens, &result, 0)?;
        }
        Ok(sum)
    }
}

/// Returns the experts as one tensor for each matrix; `None` if they are not so in memory.
fn merged(experts: &[Gated]) -> Option<MergedExperts> {
    let matrix = |which: fn(&Gated) -> &Linear| {
        let parts: Vec<&Resident> = experts.iter().map(|expert| which(expert).weight()).collect();
        whole_tensor(&parts)
    };
    Some(MergedExperts {
        gate: matrix(Gated::gate)?,
        up: matrix(Gated::up)?,
        down: matrix(Gated::down)?,
    })
}

/// Returns the tokens of each expert by the router's logits (n, experts): each token goes to the
/// `per_token` largest, weighted by their softmax over all experts, or over those chosen if they are
/// renormalised.
fn shares(logits: &[Vec<f32>], per_token: usize, renormalised: bool) -> Vec<Share> {
    let count = logits.first().map_or(0, Vec::len);
    let mut shares = vec![Share::default(); count];
    for (token, logits) in logits.iter().enumerate() {
        let mut order: Vec<usize> = (0..count).collect();
        // stable, so that of equals the first is chosen
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let largest = order.first().map_or(0.0, |first| logits[*first]);
        let exp = |expert: &usize| (logits[*expert] - largest).exp();
        let among = if renormalised { &order[..per_token] } else { &order[..] };
        let sum: f32 = among.iter().map(exp).sum();
        for expert in &order[..per_token] {
            shares[*expert].tokens.push(token as u32);
            shares[*expert].weights.push(exp(expert) / sum);
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_its_best_experts_by_their_softmax() {
        let logits = [vec![1.0, 3.0, 2.0], vec![0.0, -1.0, 0.0]];
        let found = shares(&logits, 2, true);
        let weight = 1.0 / (1.0 + 1f32.exp());
        assert_eq!(found[0].tokens, [1]);
        assert_eq!(found[1].tokens, [0]);
        assert_eq!(found[2].tokens, [0, 1]);
        assert!((found[2].weights[0] - weight).abs() < 1e-6, "{found:?}");
        assert!((found[1].weights[0] - (1.0 - weight)).abs() < 1e-6, "{found:?}");
        assert_eq!(found[0].weights, [0.5]);
    }

    #[test]
    fn without_renormalising_the_others_keep_their_part() {
        let found = shares(&[vec![0.0, 0.0, 0.0, 0.0]], 2, false);
        assert_eq!(
            (found[0].weights.as_slice(), found[1].weights.as_slice()),
            (&[0.25f32][..], &[0.25f32][..])
        );
        assert!(found[2].tokens.is_empty() && found[3].tokens.is_empty());
    }
}

//! A mixture of experts (Jiang et al., 2024, arXiv:2401.04088): a router chooses a few networks for
//! each token, and the softmax of the router's logits weights the results of these networks.
//!
//! On the CPU, each expert is evaluated once on all its tokens, so that its weights are read once.

use super::device_experts::{
    MAX_FUSED_TOKENS, MergedExperts, choose_experts, evaluate_all_experts,
};
use super::gated::GatedNetwork;
use super::linear::Linear;
use crate::weights::{ResidentTensor, WeightMap, merged_tensor};
use candle_core::{Result, Tensor, bail};
use modelgate_model::Experts;
use std::sync::Arc;

/// The experts of one layer and their router.
pub(super) struct MixtureOfExperts {
    router: Linear,
    experts: Vec<GatedNetwork>,
    /// The experts as one tensor for each of the three matrices. `None` if the experts are separate
    /// tensors in memory.
    merged: Option<Arc<MergedExperts>>,
    /// The number of experts that evaluate a token.
    per_token: usize,
    /// Whether the weights of the chosen experts are scaled so that their sum is 1.
    renormalized: bool,
}

/// The rows of the tokens that one expert evaluates, and the weight of the result for each of them.
#[derive(Debug, Clone, Default, PartialEq)]
struct ExpertTokens {
    tokens: Vec<u32>,
    weights: Vec<f32>,
}

impl MixtureOfExperts {
    /// Creates the mixture; removes the weights of the router and the experts, whose names begin
    /// with `prefix`, from `weights`.
    pub(super) fn new(
        config: Experts,
        weights: &mut WeightMap,
        prefix: &str,
    ) -> Result<MixtureOfExperts> {
        let router = Linear::new(weights, &format!("{prefix}gate"), false)?;
        let experts = (0..config.count)
            .map(|number| {
                GatedNetwork::new(
                    weights,
                    &format!("{prefix}experts.{number}."),
                    ["w1", "w3", "w2"],
                )
            })
            .collect::<Result<Vec<_>>>()?;
        let Experts { count, per_token, renormalized } = config;
        if per_token == 0 || per_token > count {
            bail!("experts of a token: expected 1 to {count}, found {per_token}")
        }
        let merged = merge(&experts).map(Arc::new);
        Ok(MixtureOfExperts { router, experts, merged, per_token, renormalized })
    }

    /// Evaluates the mixture on `x` (n, hidden size), and returns a tensor of the same shape.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let logits = self.router.forward(x)?;
        if x.device().is_cuda() {
            let (chosen, weights) = choose_experts(&logits, self.per_token, self.renormalized)?;
            let is_fused = x.dim(0)? <= MAX_FUSED_TOKENS;
            return match &self.merged {
                Some(experts) if is_fused => experts.forward(x, &chosen, &weights),
                _ => evaluate_all_experts(&self.experts, x, &chosen, &weights),
            };
        }
        let logits = logits.to_vec2::<f32>()?;
        let assignments = assign_tokens(&logits, self.per_token, self.renormalized);
        let mut sum = x.zeros_like()?;
        for (expert, assigned) in self.experts.iter().zip(assignments) {
            if assigned.tokens.is_empty() {
                continue;
            }
            let count = assigned.tokens.len();
            let tokens = Tensor::from_vec(assigned.tokens, count, x.device())?;
            let weights = Tensor::from_vec(assigned.weights, (count, 1), x.device())?;
            let result = expert.forward(&x.index_select(&tokens, 0)?)?.broadcast_mul(&weights)?;
            sum = sum.index_add(&tokens, &result, 0)?;
        }
        Ok(sum)
    }
}

/// Returns the experts as one tensor for each of the three matrices; `None` if the experts are
/// separate tensors in memory.
fn merge(experts: &[GatedNetwork]) -> Option<MergedExperts> {
    let matrix = |which: fn(&GatedNetwork) -> &Linear| {
        let parts: Vec<&ResidentTensor> =
            experts.iter().map(|expert| which(expert).weight()).collect();
        merged_tensor(&parts)
    };
    Some(MergedExperts {
        gate: matrix(GatedNetwork::gate)?,
        up: matrix(GatedNetwork::up)?,
        down: matrix(GatedNetwork::down)?,
    })
}

/// Returns the tokens of each expert for the router's logits (n, experts). Each token is assigned
/// to the `per_token` experts with the largest logits. The weights are the softmax of the logits
/// over all experts, or over the chosen experts if `renormalized`.
fn assign_tokens(logits: &[Vec<f32>], per_token: usize, renormalized: bool) -> Vec<ExpertTokens> {
    let count = logits.first().map_or(0, Vec::len);
    let mut assignments = vec![ExpertTokens::default(); count];
    for (token, logits) in logits.iter().enumerate() {
        let mut order: Vec<usize> = (0..count).collect();
        // stable, so that the first of equal experts is chosen
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let largest = order.first().map_or(0.0, |first| logits[*first]);
        let exp = |expert: &usize| (logits[*expert] - largest).exp();
        let summed = if renormalized { &order[..per_token] } else { &order[..] };
        let sum: f32 = summed.iter().map(exp).sum();
        for expert in &order[..per_token] {
            assignments[*expert].tokens.push(token as u32);
            assignments[*expert].weights.push(exp(expert) / sum);
        }
    }
    assignments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_assigned_to_its_best_experts_with_softmax_weights() {
        let logits = [vec![1.0, 3.0, 2.0], vec![0.0, -1.0, 0.0]];
        let found = assign_tokens(&logits, 2, true);
        let weight = 1.0 / (1.0 + 1f32.exp());
        assert_eq!(found[0].tokens, [1]);
        assert_eq!(found[1].tokens, [0]);
        assert_eq!(found[2].tokens, [0, 1]);
        assert!((found[2].weights[0] - weight).abs() < 1e-6, "{found:?}");
        assert!((found[1].weights[0] - (1.0 - weight)).abs() < 1e-6, "{found:?}");
        assert_eq!(found[0].weights, [0.5]);
    }

    #[test]
    fn weights_that_are_not_renormalized_include_the_experts_that_were_not_chosen() {
        let found = assign_tokens(&[vec![0.0, 0.0, 0.0, 0.0]], 2, false);
        assert_eq!(
            (found[0].weights.as_slice(), found[1].weights.as_slice()),
            (&[0.25f32][..], &[0.25f32][..])
        );
        assert!(found[2].tokens.is_empty() && found[3].tokens.is_empty());
    }
}

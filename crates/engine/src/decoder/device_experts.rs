//! A mixture of experts on a device, without a transfer to the host.
//!
//! A few tokens are evaluated by candle's fused kernels, which read the weights of an expert once
//! for each of its tokens. A larger number of tokens is evaluated by every expert, and the results
//! of experts that were not chosen are discarded. candle's fused kernel for many tokens (candle
//! 0.11.1, `moe_gemm_gguf_prefill`) is not used: it reads its tiles while they are overwritten for
//! the next step, so that the same prompt gives different logits in each run, and it is four times
//! slower.

use super::gated::GatedNetwork;
use candle_core::quantized::QTensor;
use candle_core::{D, DType, Result, Tensor};
use candle_nn::moe::moe_gemm_gguf;
use std::sync::Arc;

/// The maximum number of tokens that the fused kernels evaluate. The kernels read the weights of the
/// chosen experts once for each token, which is at most one pass over all experts up to this number.
pub(super) const MAX_FUSED_TOKENS: usize = 4;

/// The matrices of all experts of a layer, merged into tensors (experts, rows, columns).
pub(super) struct MergedExperts {
    pub(super) gate: Arc<QTensor>,
    pub(super) up: Arc<QTensor>,
    pub(super) down: Arc<QTensor>,
}

/// Returns the k = `per_token` experts of each token and the weights of their results, both (n, k),
/// for router logits (n, experts). The weights are the softmax of the logits over all experts, or
/// over the chosen experts if `renormalized`.
pub(super) fn choose_experts(
    logits: &Tensor,
    per_token: usize,
    renormalized: bool,
) -> Result<(Tensor, Tensor)> {
    let probabilities = candle_nn::ops::softmax_last_dim(logits)?;
    let order = logits.contiguous()?.arg_sort_last_dim(false)?;
    let chosen = order.narrow(D::Minus1, 0, per_token)?.contiguous()?;
    let weights = probabilities.gather(&chosen, D::Minus1)?;
    let weights = if renormalized {
        weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?
    } else {
        weights
    };
    Ok((chosen, weights))
}

impl MergedExperts {
    /// Evaluates the `chosen` experts (n, k) on `x` (n, hidden size), and returns the sum of their
    /// results, multiplied by `weights` (n, k). The result has the shape of `x`.
    pub(super) fn forward(&self, x: &Tensor, chosen: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let gate = expert_product(x, &self.gate, None, chosen)?.silu()?;
        let inner = (gate * expert_product(x, &self.up, None, chosen)?)?;
        let results = expert_product(&inner, &self.down, Some(weights), chosen)?;
        let (count, per_token) = chosen.dims2()?;
        results.reshape((count, per_token, ()))?.sum(1)
    }
}

/// Returns the products (n * k, rows) of each token with the matrices of its experts. `chosen` is
/// (n, k).
///
/// Without `weights`, `x` is (n, columns). With `weights` (n, k), `x` is (n * k, columns), with a
/// row for each token and expert, and each product is multiplied by its weight.
pub(crate) fn expert_product(
    x: &Tensor,
    experts: &QTensor,
    weights: Option<&Tensor>,
    chosen: &Tensor,
) -> Result<Tensor> {
    let (_, per_token) = chosen.dims2()?;
    // the kernels require that all rows of one expert are adjacent
    let (sorted_experts, sorted_rows) = chosen.flatten_all()?.sort_last_dim(true)?;
    let weights = weights.cloned();
    let (rows, numbers) = (&sorted_rows, &sorted_experts);
    moe_gemm_gguf(x, experts, &weights, rows, numbers, per_token, false, DType::F32)
}

/// Evaluates every expert on every row of `x` (n, hidden size), and returns the weighted sum of the
/// results of the chosen experts. `chosen` and `weights` are (n, k).
pub(super) fn evaluate_all_experts(
    experts: &[GatedNetwork],
    x: &Tensor,
    chosen: &Tensor,
    weights: &Tensor,
) -> Result<Tensor> {
    let zeros = x.zeros_like()?;
    let mut sum = zeros.clone();
    for (number, expert) in (0u32..).zip(experts) {
        let is_chosen = chosen.eq(number)?;
        let weight = (is_chosen.to_dtype(DType::F32)? * weights)?.sum_keepdim(D::Minus1)?;
        let result = expert.forward(x)?.broadcast_mul(&weight)?;
        // a selection, not a multiplication by 0: infinity times 0 is NaN
        let is_chosen = is_chosen.max_keepdim(D::Minus1)?.broadcast_as(x.shape())?;
        sum = (sum + is_chosen.where_cond(&result, &zeros)?)?;
    }
    Ok(sum)
}

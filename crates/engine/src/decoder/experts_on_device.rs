//! A mixture of experts on a device: the choice of experts and their products without a trip to the
//! host. Few tokens go through candle's fused kernels, which read an expert's weights once for each
//! token that goes there. Many go through every expert, weighted by 0 where they do not belong: the
//! fused kernel for many (candle 0.11.1, `moe_gemm_gguf_prefill`) reads its tiles while they are
//! written for the next step, so that the same prompt gives other logits from run to run, and it is
//! four times slower than this.

use super::feed_forward::Gated;
use candle_core::quantized::QTensor;
use candle_core::{D, DType, Result, Tensor};
use candle_nn::moe::moe_gemm_gguf;
use std::sync::Arc;

/// Tokens that are few: fewer than make every expert's weights be read more than once.
pub(super) const FEW_TOKENS: usize = 4;

/// Matrices of all experts of a layer, each (experts, rows, columns).
pub(super) struct MergedExperts {
    pub(super) gate: Arc<QTensor>,
    pub(super) up: Arc<QTensor>,
    pub(super) down: Arc<QTensor>,
}

/// The experts that each token goes to, and how much of each result it takes: (n, k) both. The
/// weights are the softmax of the router's logits over all experts, or over those chosen.
pub(super) fn choose(
    logits: &Tensor,
    per_token: usize,
    renormalised: bool,
) -> Result<(Tensor, Tensor)> {
    let shares = candle_nn::ops::softmax_last_dim(logits)?;
    let order = logits.contiguous()?.arg_sort_last_dim(false)?;
    let chosen = order.narrow(D::Minus1, 0, per_token)?.contiguous()?;
    let weights = shares.gather(&chosen, D::Minus1)?;
    let weights = if renormalised {
        weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?
    } else {
        weights
    };
    Ok((chosen, weights))
}

impl MergedExperts {
    /// Rows of `x` (n, width) to rows of the same width.
    pub(super) fn forward(&self, x: &Tensor, chosen: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let gate = expert_product(x, &self.gate, None, chosen)?.silu()?;
        let wide = (gate * expert_product(x, &self.up, None, chosen)?)?;
        let narrow = expert_product(&wide, &self.down, Some(weights), chosen)?;
        let (count, per_token) = chosen.dims2()?;
        narrow.reshape((count, per_token, ()))?.sum(1)
    }
}

/// The product of each token with the experts that it goes to: `x` (n, columns) and no `weights`, or
/// a row for each token and expert (n k, columns) and how much of its product is taken; `chosen` (n,
/// k). Gives (n k, rows).
pub(crate) fn expert_product(
    x: &Tensor,
    experts: &QTensor,
    weights: Option<&Tensor>,
    chosen: &Tensor,
) -> Result<Tensor> {
    let (_, per_token) = chosen.dims2()?;
    // the kernels want all rows of one expert beside each other
    let (experts_in_order, rows_in_order) = chosen.flatten_all()?.sort_last_dim(true)?;
    let weights = weights.cloned();
    let (sorted, order) = (&rows_in_order, &experts_in_order);
    moe_gemm_gguf(x, experts, &weights, sorted, order, per_token, false, DType::F32)
}

/// Every expert for every token, left out where the token does not go there.
pub(super) fn all_experts(
    experts: &[Gated],
    x: &Tensor,
    chosen: &Tensor,
    weights: &Tensor,
) -> Result<Tensor> {
    let nothing = x.zeros_like()?;
    let mut sum = nothing.clone();
    for (number, expert) in (0u32..).zip(experts) {
        let here = chosen.eq(number)?;
        let weight = (here.to_dtype(DType::F32)? * weights)?.sum_keepdim(D::Minus1)?;
        let result = expert.forward(x)?.broadcast_mul(&weight)?;
        // chosen, not weighted by 0: what is infinite there must not become a NaN here
        let here = here.max_keepdim(D::Minus1)?.broadcast_as(x.shape())?;
        sum = (sum + here.where_cond(&result, &nothing)?)?;
    }
    Ok(sum)
}

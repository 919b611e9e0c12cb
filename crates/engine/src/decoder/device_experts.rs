//! A mixture of experts on a device: chooses experts and computes their products without a transfer
//! to the host. Few tokens go through candle's fused kernels, which read an expert's weights once for
//! each of its tokens. Many go through every expert, and results of experts that were not chosen are
//! left out: the fused kernel for many (candle 0.11.1, `moe_gemm_gguf_prefill`) reads its tiles while
//! they are written for the next step, so that the same prompt gives different logits from run to
//! run, and it is four times slower than this.

use super::gated::Gated;
use candle_core::quantized::QTensor;
use candle_core::{D, DType, Result, Tensor};
use candle_nn::moe::moe_gemm_gguf;
use std::sync::Arc;

/// The most tokens that go through the fused kernels: fewer than make every expert's weights be read
/// more than once.
pub(super) const FEW_TOKENS: usize = 4;

/// Matrices of all experts of a layer, each (experts, rows, columns).
pub(super) struct MergedExperts {
    pub(super) gate: Arc<QTensor>,
    pub(super) up: Arc<QTensor>,
    pub(super) down: Arc<QTensor>,
}

/// Returns the experts of each token and the weights of their results: (n, k) both. The weights are
/// the softmax of the router's logits over all experts, or over those chosen.
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
    /// Maps rows of `x` (n, width) to rows of the same width.
    pub(super) fn forward(&self, x: &Tensor, chosen: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let gate = expert_product(x, &self.gate, None, chosen)?.silu()?;
        let wide = (gate * expert_product(x, &self.up, None, chosen)?)?;
        let narrow = expert_product(&wide, &self.down, Some(weights), chosen)?;
        let (count, per_token) = chosen.dims2()?;
        narrow.reshape((count, per_token, ()))?.sum(1)
    }
}

/// Returns the product of each token with its experts, (n k, rows): `x` is (n, columns) without
/// `weights`, or has a row for each token and expert, (n k, columns), whose product is multiplied by
/// its weight; `chosen` is (n, k).
pub(crate) fn expert_product(
    x: &Tensor,
    experts: &QTensor,
    weights: Option<&Tensor>,
    chosen: &Tensor,
) -> Result<Tensor> {
    let (_, per_token) = chosen.dims2()?;
    // the kernels require all rows of one expert to be adjacent
    let (experts_in_order, rows_in_order) = chosen.flatten_all()?.sort_last_dim(true)?;
    let weights = weights.cloned();
    let (sorted, order) = (&rows_in_order, &experts_in_order);
    moe_gemm_gguf(x, experts, &weights, sorted, order, per_token, false, DType::F32)
}

/// Evaluates every expert for every token, and sums the results of those that were chosen.
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
        // selected, not multiplied by 0: infinity times 0 would be NaN
        let here = here.max_keepdim(D::Minus1)?.broadcast_as(x.shape())?;
        sum = (sum + here.where_cond(&result, &nothing)?)?;
    }
    Ok(sum)
}

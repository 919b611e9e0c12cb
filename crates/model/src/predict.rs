//! Bytes that a model will take, from its shapes.

use crate::{Config, residence, tensors};
use modelgate_protocol::{DType, Scheme};

/// Predicted bytes, apart from what the process and its device take for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PredictedBytes {
    /// Weights in their resident types.
    pub weights: u64,
    /// Weights, counted.
    pub parameters: u64,
    /// Keys and values for the whole context.
    pub kv_cache: u64,
    /// Activations at their largest, during the prefill of a chunk.
    pub activations: u64,
}

/// Prompt tokens that the engine evaluates at once, which bounds the activations.
pub const PREFILL_CHUNK: usize = 512;

/// Bytes of the key/value cache: keys and values, every layer, `context` positions.
pub fn kv_cache_bytes(config: &Config, context: usize, dtype_bytes: u64) -> u64 {
    product(&[2, config.layers, config.kv_heads, config.head_dim, context])
        .saturating_mul(dtype_bytes)
}

/// A product of sizes from outside, which saturates.
fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1, |product: u64, size| product.saturating_mul(*size as u64))
}

/// What `config` takes under `scheme` where values that are not quantized have type `float`, and
/// keys and values `kv_bytes` bytes each.
pub fn predict(
    config: &Config,
    scheme: Scheme,
    float: &DType,
    context: usize,
    kv_bytes: u64,
) -> PredictedBytes {
    let mut weights = 0u64;
    let mut parameters = 0u64;
    for tensor in tensors(config) {
        let shape: Vec<u64> = tensor.shape.iter().map(|size| *size as u64).collect();
        let elements = tensor.elements();
        let placed = residence(&tensor.name, &shape, scheme);
        let dtype = placed.quantized.as_ref().unwrap_or(float);
        parameters = elements.saturating_add(parameters);
        weights = dtype.bytes(elements).unwrap_or(0).saturating_add(weights);
    }
    PredictedBytes {
        weights,
        parameters,
        kv_cache: kv_cache_bytes(config, context, kv_bytes),
        activations: activation_bytes(config, context),
    }
}

/// f32 activations of one prefill chunk: residual stream and its norm, attention's scores and
/// their softmax over the whole context, the feed-forward network's three wide tensors, and the
/// logits of the last position.
fn activation_bytes(config: &Config, context: usize) -> u64 {
    let chunk = PREFILL_CHUNK.min(context);
    let scores = product(&[2, config.heads, chunk, context]);
    let wide = product(&[3, chunk, config.ffn]);
    let narrow = product(&[6, chunk, config.hidden]);
    scores.max(wide).saturating_add(narrow).saturating_add(config.vocab as u64).saturating_mul(4)
}

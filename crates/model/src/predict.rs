//! Bytes that a model will take, from its shapes.

use crate::config::Config;
use crate::rule::{float_dtype, residence};
use crate::shapes::tensors;
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

/// Bytes of the KV cache: keys and values, every layer, `context` positions; f32 on the CPU,
/// 16 bits on a device.
pub fn kv_cache_bytes(config: &Config, context: usize, on_device: bool) -> u64 {
    let bytes = if on_device { 2 } else { 4 };
    product(&[bytes, 2, config.layers, config.kv_heads, config.head_dim, context])
}

/// A product of sizes from outside, which saturates.
fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1, |product: u64, size| product.saturating_mul(*size as u64))
}

/// Layers from the first of a synthetic model on a device that are evaluated on the CPU too.
pub const COMPARED_LAYERS: usize = 2;

/// Bytes of attention's scores that are in memory at once: where they would be more, fewer queries
/// are looked at together.
pub const SCORE_BYTES: u64 = 64 << 20;

/// What `config` takes under `scheme` where its files hold values of the float type `source`, on the
/// CPU, which computes and keeps keys and values in f32, or on a device, where they have 16 bits.
pub fn predict(
    config: &Config,
    scheme: Scheme,
    source: &DType,
    context: usize,
    on_device: bool,
) -> PredictedBytes {
    let mut weights = 0u64;
    let mut parameters = 0u64;
    for tensor in tensors(config) {
        let shape: Vec<u64> = tensor.shape.iter().map(|size| *size as u64).collect();
        let elements = tensor.elements();
        let placed = residence(&tensor.name, &shape, scheme);
        let dtype = placed.quantized.unwrap_or_else(|| float_dtype(placed.role, source, on_device));
        parameters = elements.saturating_add(parameters);
        weights = dtype.bytes(elements).unwrap_or(0).saturating_add(weights);
    }
    PredictedBytes {
        weights,
        parameters,
        kv_cache: kv_cache_bytes(config, context, on_device),
        activations: if on_device {
            device_activation_bytes(config, context)
        } else {
            activation_bytes(config, context)
        },
    }
}

/// f32 activations of one prefill chunk: residual stream, its norm and what the projections make of
/// it; attention's scores and their softmax, or the feed-forward network's three wide tensors; and
/// the logits of the last position.
fn activation_bytes(config: &Config, context: usize) -> u64 {
    attention_bytes(config, context)
        .max(wide_bytes(config, context))
        .saturating_add(narrow_bytes(config, context))
}

/// What a device takes on top for the recorded launches of a token, and because its driver gives
/// memory in pieces of 32 MiB; seen on one with compute capability 9.0.
const RECORDED_BYTES: u64 = 48 << 20;

/// The same on a device: with the mask and the keys and values in f32 that a chunk's scores are of,
/// and with the activations that were rounded for the wide product.
fn device_activation_bytes(config: &Config, context: usize) -> u64 {
    let chunk = PREFILL_CHUNK.min(context);
    let mask = product(&[4, chunk, context]);
    let keys_and_values = product(&[4, 2, config.kv_heads, context, config.head_dim]);
    let rounded = product(&[9, chunk, config.ffn]) / 8;
    let angles = product(&[4, context, config.head_dim]);
    let attention =
        attention_bytes(config, context).saturating_add(mask).saturating_add(keys_and_values);
    attention
        .max(wide_bytes(config, context).saturating_add(rounded))
        .saturating_add(narrow_bytes(config, context))
        .saturating_add(angles)
        .saturating_add(RECORDED_BYTES)
}

/// Scores and their softmax.
fn attention_bytes(config: &Config, context: usize) -> u64 {
    let chunk = PREFILL_CHUNK.min(context);
    product(&[4, config.heads, chunk, context]).min(SCORE_BYTES).saturating_mul(2)
}

/// Gate, what comes up, and their product.
fn wide_bytes(config: &Config, context: usize) -> u64 {
    product(&[4, 3, PREFILL_CHUNK.min(context), config.ffn])
}

/// What is as wide as the residual stream, and one row of logits.
fn narrow_bytes(config: &Config, context: usize) -> u64 {
    let stream = product(&[4, 6, PREFILL_CHUNK.min(context), config.hidden]);
    stream.saturating_add(product(&[4, config.vocab]))
}

//! Predicts the bytes of a model from its shapes.

use crate::config::Config;
use crate::rule::{float_dtype, residence};
use crate::shapes::tensors;
use modelgate_protocol::{DType, Scheme};

/// The predicted memory of a model, without that of the process and of the device context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PredictedBytes {
    /// Bytes of the weights in their resident types.
    pub weights: u64,
    /// The number of weights.
    pub parameters: u64,
    /// Bytes of the keys and values for the complete context.
    pub kv_cache: u64,
    /// Bytes of the activations at their peak, during the prefill of a chunk.
    pub activations: u64,
}

/// The number of prompt tokens that the engine evaluates together, which bounds the activations.
pub const PREFILL_CHUNK: usize = 512;

/// Returns the bytes of the KV cache: keys and values for all layers and `context` positions; f32
/// on the CPU, 16 bits on a device.
pub fn kv_cache_bytes(config: &Config, context: usize, on_device: bool) -> u64 {
    let bytes = if on_device { 2 } else { 4 };
    product(&[bytes, 2, config.layers, config.kv_heads, config.head_dim, context])
}

/// Returns a saturating product of sizes from a file.
fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1, |product: u64, size| product.saturating_mul(*size as u64))
}

/// The number of first layers of a synthetic model on a device that are also evaluated on the CPU.
pub const COMPARED_LAYERS: usize = 2;

/// The maximum size of the attention scores in memory, in bytes. Above it, fewer
/// queries are evaluated together.
pub const SCORE_BYTES: u64 = 64 << 20;

/// Returns the predicted bytes of `config` with `scheme`, if its files contain values of the float
/// type `source`. On the CPU, keys and values are f32; on a device, they have 16 bits.
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

/// Returns the bytes of the f32 activations of one prefill chunk: the residual stream, its norm and
/// its projections; the attention scores and their softmax, or the three wide tensors of the
/// feed-forward network; and the logits of the last position.
fn activation_bytes(config: &Config, context: usize) -> u64 {
    attention_bytes(config, context)
        .max(wide_bytes(config, context))
        .saturating_add(narrow_bytes(config, context))
}

/// Additional bytes on a device for the recorded launches of a token, and because the driver
/// allocates memory in pieces of 32 MiB. Measured on a device with compute capability 9.0.
const RECORDED_BYTES: u64 = 48 << 20;

/// Returns the bytes of the activations on a device: with the mask, the f32 keys and values for the
/// scores of a chunk, and the rounded activations for the wide product.
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

/// Returns the bytes of the scores and their softmax.
fn attention_bytes(config: &Config, context: usize) -> u64 {
    let chunk = PREFILL_CHUNK.min(context);
    product(&[4, config.heads, chunk, context]).min(SCORE_BYTES).saturating_mul(2)
}

/// Returns the bytes of the gate, the up projection and their product.
fn wide_bytes(config: &Config, context: usize) -> u64 {
    product(&[4, 3, PREFILL_CHUNK.min(context), config.ffn])
}

/// Returns the bytes of tensors with the width of the residual stream, and one row of logits.
fn narrow_bytes(config: &Config, context: usize) -> u64 {
    let stream = product(&[4, 6, PREFILL_CHUNK.min(context), config.hidden]);
    stream.saturating_add(product(&[4, config.vocab]))
}

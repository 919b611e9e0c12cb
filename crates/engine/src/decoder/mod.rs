//! A decoder of the Llama family over resident weights: RMS norms, grouped-query attention with
//! optional bias, rotary position embedding, and gated feed-forward networks or mixtures of
//! experts.
//!
//! Activations are f32, and a layer transfers no data between devices. The module does not depend
//! on files, tokenizers or the worker protocol.

mod attention;
mod device_experts;
mod experts;
mod feed_forward;
mod gated;
mod kv_cache;
mod layer;
mod linear;
mod llama;
mod mask;
mod norm;
mod recorded_step;
mod rope;
mod single_token;
mod step;
#[cfg(test)]
mod tests;

pub(crate) use device_experts::expert_product;
pub(crate) use kv_cache::{CacheError, KvCache};
pub(crate) use llama::Decoder;
pub(crate) use rope::inverse_frequencies;

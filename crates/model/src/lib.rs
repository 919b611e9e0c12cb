//! A model on paper: from its `config.json` to every tensor's name, shape, role, resident type and
//! bytes, before a file of weights is opened.
//!
//! Loading, prediction and checking all ask here, so that they cannot disagree. Pure functions: no
//! input or output, no engine, no device.

mod config;
mod gguf_names;
mod mix;
mod predict;
mod rule;
mod shapes;

pub use config::{
    Config, ConfigError, DEFAULT_CONTEXT, Experts, Family, Rope, RopeScaling, SlidingWindow,
};
pub use gguf_names::{GgufName, gguf_name};
pub use mix::{Mix, mix};
pub use predict::{
    COMPARED_LAYERS, PREFILL_CHUNK, PredictedBytes, SCORE_BYTES, kv_cache_bytes, predict,
};
pub use rule::{Placement, Role, float_dtype, residence, role};
pub use shapes::{TensorShape, parameters, tensors};

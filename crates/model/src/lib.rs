//! The static description of a model: its files, and from its `config.json` the name, shape, role,
//! resident type and bytes of every tensor, before a weight is read.
//!
//! The crate reads only small files that describe a model, and does not depend on an engine or a
//! device.

mod config;
mod gguf_names;
pub mod layout;
pub mod other_format;
mod predict;
pub mod python_json;
mod rule;
mod shapes;
pub mod small_file;
pub mod symlinks;
mod token_ids;
pub mod units;

pub use config::{
    Config, ConfigError, DEFAULT_CONTEXT, Experts, Family, Rope, RopeScaling, SlidingWindow,
};
pub use gguf_names::{GgufName, gguf_name};
pub use predict::{
    COMPARED_LAYERS, PREFILL_CHUNK, PredictedBytes, SCORE_BYTES, kv_cache_bytes, predict,
};
pub use rule::{Placement, float_dtype, residence, role};
pub use shapes::{TensorShape, parameters, tensors};
pub use token_ids::token_ids;

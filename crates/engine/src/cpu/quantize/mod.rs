//! Quantizes f32 values to blocks and reads them back, on all cores, with the error that it makes.
//!
//! Blocks are those of ggml's reference quantizers. Of q4_k, q5_k and q6_k candle has earlier
//! versions, which lose more; its others still equal ggml's, bit for bit.
//!
//! Blocks depend on no value outside them, so rows may be cut into chunks and converted by many
//! threads with the same result, bit for bit, as by one. Knows no file and no model.

mod k_quants;
mod rows;
mod run_batch;
mod scale_min_search;
mod scale_search;
mod squared_error;

pub(crate) use rows::quantize;
pub use rows::{Quantized, quantize_rows};
pub(crate) use squared_error::SquaredError;

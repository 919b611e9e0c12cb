//! Quantizes f32 values to blocks on all cores, and measures the quantization error by reading the
//! blocks back.
//!
//! The blocks equal those of ggml's reference quantizers. candle's quantizers for q4_k, q5_k and
//! q6_k are earlier versions with larger errors, so this module has its own. candle's other
//! quantizers equal ggml's, bit for bit.
//!
//! A block depends only on its own values. Rows can therefore be split into chunks and converted by
//! several threads with the same result, bit for bit, as by one thread.

mod k_quants;
mod rows;
mod run_batch;
mod scale_min_search;
mod scale_search;
mod squared_error;

pub(crate) use rows::quantize;
pub use rows::{Quantized, quantize_rows};
pub(crate) use squared_error::SquaredError;

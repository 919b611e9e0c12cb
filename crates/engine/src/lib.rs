//! The engine: what loads a model and generates with it inside a worker. The only crate that knows
//! candle.
//!
//! [`run_worker`] is the whole worker: one request in, events out. [`Model`] is the same without a
//! process around it, for tests and benchmarks. Nothing here knows what would be a right answer, a
//! fast load or too much memory: the harness judges, the engine tells.

mod agreement;
mod allocate;
mod chat;
mod decoder;
mod device_matrix;
mod events;
mod fail;
mod file_ceilings;
mod fill;
mod generate;
mod gpu;
mod load;
mod meter;
mod model;
#[doc(hidden)]
pub mod parsers;
mod perplexity;
mod place;
mod product;
mod quantize;
mod small_file;
mod source;
mod staging;
mod storage;
mod synthetic;
mod tokenizer;
mod traffic;
mod worker;

pub use generate::answer;
pub use model::{Events, Model};
pub use perplexity::perplexity;
pub use quantize::{Quantized, quantize_rows};
pub use tokenizer::Prompt;
pub use worker::run_worker;

//! The engine: loads a model and generates with it inside a worker. The only crate that knows
//! candle.
//!
//! [`run_worker`] is the whole worker: one request in, events out. [`Model`] is the same without a
//! process around it, for tests and benchmarks. Nothing here knows what a right answer, a fast load
//! or too much memory would be: the engine measures, the harness judges.

mod agreement;
mod blocks;
mod compute_device;
mod cpu;
mod cuda;
mod decoder;
mod events;
mod failures;
mod formats;
mod generate;
mod load;
mod meter;
mod model;
mod numeric;
#[doc(hidden)]
pub mod parsers;
mod perplexity;
mod self_test;
mod text;
mod thread_pool;
mod traffic;
mod weights;
mod worker;

pub use cpu::quantize::{Quantized, quantize_rows};
pub use events::Events;
pub use generate::answer;
pub use model::Model;
pub use perplexity::perplexity;
pub use text::Prompt;
pub use worker::run_worker;

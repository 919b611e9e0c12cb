//! The engine, which loads a model and generates with it inside a worker process. No other crate of the
//! product depends on candle.
//!
//! [`run_worker`] is the complete worker: it reads one request and writes events. [`Model`] offers
//! the same operations without a process, for tests and benchmarks. The engine only measures. The
//! harness decides whether an answer is correct, whether a load is fast enough, and whether the
//! memory use is acceptable.

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

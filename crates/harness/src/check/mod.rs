//! The five checks: pure functions of a measurement and an expectation.
//!
//! They do not use the manifest, files, processes, devices, or the quantization rule of the loader.
//! Each is tested without a model.

mod block_types;
mod expectation;
mod fixed_run;
mod generation;
mod judge;
mod kind;
mod load;
mod memory_range;
mod mix;
mod quantization;
mod resident;
mod synthetic_generation;
mod tensor_class;
mod time_budget;
mod verdict;
mod words;

pub use expectation::{Answer, Expectation, ExpectedValue};
pub use fixed_run::FixedRun;
pub use kind::Check;
pub use verdict::{Status, Verdict};

//! The five checks: pure functions of a measurement and what is expected of it.
//!
//! They know no manifest, no file, no process and no device, and not the rule by which the loader
//! quantizes; each is tested without any model.

mod expectation;
mod fixed_run;
mod generation;
mod judge;
mod kind;
mod load;
mod memory_range;
mod quantization;
mod synthetic_generation;
mod tensor_class;
mod time_budget;
mod verdict;
mod words;

pub use expectation::{Answer, Expectation, Given};
pub use fixed_run::FixedRun;
pub use kind::Check;
pub use verdict::{Status, Verdict};

//! Test support: damaged copies of models, GGUF conversion, models of random weights, and a hub on
//! loopback. A separate crate, so that the product crates contain no test code.
//!
//! The functions panic on failure, with the path in the message, except those in [`synthetic`].
//! The crate shares no code with the engine, so that the same mistake cannot be on both sides.

#![allow(clippy::unwrap_used)]

pub mod distributions;
pub mod families;
pub mod gguf;
pub mod hub;
pub mod limits;
pub mod model_files;
pub mod mutation;
pub mod random;
pub mod requests;
pub mod safetensors_edit;
pub mod shapes;
pub mod smallest;
pub mod synthetic;
pub mod tokenizers;
pub mod workers;

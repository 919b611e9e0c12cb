//! Models for tests: copies to damage, files in another format, random weights of true shapes. A
//! crate of its own, so that no product crate contains test code.
//!
//! Everything here panics on failure, with the path in the message, which is all that a test needs.
//! It shares no code with the engine, so that a mistake cannot be on both sides.

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

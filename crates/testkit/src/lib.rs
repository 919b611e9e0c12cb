//! What tests need of models: copies to damage, files in another format, random weights of true
//! shapes. A crate of its own, so that no product crate carries test code.
//!
//! Everything here panics on failure, with the path in the message: a test has nothing better to
//! do. It shares no code with the engine, so that a mistake cannot be on both sides.

#![allow(clippy::unwrap_used)]

pub mod distributions;
pub mod families;
pub mod gguf;
pub mod hub;
pub mod limits;
pub mod mutation;
pub mod random;
pub mod safetensors_edit;
pub mod shapes;
pub mod smallest;
pub mod synthetic;
pub mod tokenizers;

//! Reads the headers of weight files: the names, shapes and types of tensors.
//!
//! The engine reads the same headers with other code. A check that compares both readings does not
//! repeat a mistake of the engine.

mod gguf;
mod header;
mod read;
mod safetensors;

pub(super) use read::read;

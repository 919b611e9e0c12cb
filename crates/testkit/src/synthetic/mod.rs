//! Writes model files with the real tensor shapes and random weights, of any size and in little
//! memory, for example to test a load of 141 GB without the real weights.
//!
//! The values have mean 0 and a variance that keeps the scale of activations constant through all
//! layers. They depend only on the seed, not on threads or on the distribution of tensors over
//! files. These functions return errors, unlike the rest of this crate, because users call them
//! through `cargo xtask synthesize`.

mod file;
mod gguf;
mod random_values;
mod safetensors;
mod values;

pub use file::Progress;
pub use gguf::write_gguf;
pub use safetensors::write_safetensors;

//! Model files of true shapes and random weights, of any size and in little memory, to try a load
//! of 141 GB without the weights themselves.
//!
//! Values have mean 0 and the variance with which activations keep an ordinary size through all
//! layers. They depend on the seed only, not on threads or on how tensors are distributed over
//! files. Unlike the rest of this crate, users call these functions, so they return errors.

mod file;
mod gguf;
mod random_values;
mod safetensors;
mod values;

pub use file::Progress;
pub use gguf::write_gguf;
pub use safetensors::write_safetensors;

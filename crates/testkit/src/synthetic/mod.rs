//! Model files of true shapes and random weights, of any size and in little memory: what a load of
//! 141 GB can be tried with, where the weights themselves cannot be had.
//!
//! Values have mean 0 and the variance with which activations keep an ordinary size through all
//! layers. They depend on the seed alone, not on threads or on how tensors are dealt to files.
//! Unlike the rest of this crate, what is written here is asked for by users, so it gives errors.

mod file;
mod gguf;
mod random_values;
mod safetensors;

use candle_core::quantized::GgmlDType;
pub use file::Progress;
use file::Values;
pub use gguf::write_gguf;
use modelgate_model::{Config, Role, role};
use random_values::{RandomValues, floats};
pub use safetensors::write_safetensors;
use std::io;

/// The config of that text.
fn config(text: &str) -> io::Result<Config> {
    Config::from_json(text)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("config: {error}")))
}

/// What the tensor of that name and shape is filled with: ones for a norm, zeros for a bias, and
/// random values of variance 1 over a row's length for a matrix. A row of the embedding is the
/// first activation, so its variance is 1, unless it has to serve as the output matrix too.
fn values(name: &str, shape: &[usize], dtype: GgmlDType, config: &Config) -> Values {
    let sizes: Vec<u64> = shape.iter().map(|size| *size as u64).collect();
    let all = |value: f32| Values::Given(floats(dtype, &vec![value; shape.iter().product()]));
    match role(name, &sizes) {
        Role::Norm => all(1.0),
        Role::Bias => all(0.0),
        Role::Embedding if !config.tied_embeddings => Values::Random(RandomValues::new(dtype, 1.0)),
        _ => {
            let columns = shape.last().copied().unwrap_or(1);
            Values::Random(RandomValues::new(dtype, 1.0 / (columns as f64).sqrt()))
        }
    }
}

//! The config of a synthetic model, and the values of its tensors.

use super::file::Values;
use super::random_values::{RandomValues, floats};
use candle_core::quantized::GgmlDType;
use modelgate_model::{Config, role};
use modelgate_protocol::Role;
use std::io;

/// Parses the text of a `config.json`.
pub(super) fn config(text: &str) -> io::Result<Config> {
    Config::from_json(text)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("config: {error}")))
}

/// Returns the values of the tensor `name`: ones for a norm, zeros for a bias, and for a matrix
/// random values with variance 1 / row length. The variance of the embedding is 1, because its rows
/// are the first activations, unless the embedding is also the output matrix.
pub(super) fn values(name: &str, shape: &[usize], dtype: GgmlDType, config: &Config) -> Values {
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

//! Loaded weights by name.

use super::ResidentTensor;
use candle_core::{Result, bail};
use std::collections::HashMap;

/// Loaded weights, by the Hugging Face names of their tensors. Tensors that only some formats have
/// keep the names of these formats.
pub(crate) type WeightMap = HashMap<String, ResidentTensor>;

/// Removes a weight from the map and returns it. Loading has checked that all required weights
/// exist.
///
/// # Errors
/// The weight is not in the map.
pub(crate) fn take(weights: &mut WeightMap, name: &str) -> Result<ResidentTensor> {
    match weights.remove(name) {
        Some(weight) => Ok(weight),
        None => bail!("weight {name} is missing"),
    }
}

//! Resident weights by name.

use super::Resident;
use candle_core::{Result, bail};
use std::collections::HashMap;

/// Resident weights, by their Hugging Face names and those of tensors that only some formats have.
pub(crate) type WeightMap = HashMap<String, Resident>;

/// Takes a weight out of the map. Loading has checked that every needed one is there.
pub(crate) fn take(weights: &mut WeightMap, name: &str) -> Result<Resident> {
    match weights.remove(name) {
        Some(weight) => Ok(weight),
        None => bail!("weight {name} was not loaded"),
    }
}

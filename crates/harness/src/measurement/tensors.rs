//! The inventory of tensors.

use modelgate_protocol::{Finite, Omitted, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The inventory of tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tensors {
    /// 8 times the resident bytes divided by the number of weights. `None` if nothing is resident.
    pub bits_per_weight: Option<Finite>,
    /// The resident bytes of each type.
    pub by_type: BTreeMap<String, u64>,
    /// Every resident tensor.
    pub list: Vec<Tensor>,
    /// The tensors in the files that the engine knowingly left out.
    pub omitted: Vec<Omitted>,
}

impl Tensors {
    /// Returns the inventory of these tensors, with the bytes of each type and the bits per weight.
    pub fn of(list: Vec<Tensor>, omitted: Vec<Omitted>) -> Tensors {
        let mut by_type: BTreeMap<String, u64> = BTreeMap::new();
        let (mut bytes, mut elements) = (0u64, 0u64);
        for tensor in &list {
            bytes = bytes.saturating_add(tensor.bytes);
            elements = elements.saturating_add(tensor.elements());
            let of_type = by_type.entry(tensor.dtype.name().to_owned()).or_default();
            *of_type = of_type.saturating_add(tensor.bytes);
        }
        let bits_per_weight = Finite::new(bytes as f64 * 8.0 / elements as f64);
        Tensors { bits_per_weight, by_type, list, omitted }
    }
}

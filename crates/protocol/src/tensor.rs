//! Tensors as they are resident, and those that are left out.

use crate::{DType, Device, Finite, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One tensor as it is resident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// The file it came from, relative to the model's folder.
    pub file: String,
    /// Its shape, rows first.
    pub shape: Vec<u64>,
    /// Its type in the file.
    pub source_dtype: DType,
    /// Its type as it is resident, asked of the resident storage.
    pub dtype: DType,
    /// Bytes of the resident storage.
    pub bytes: u64,
    /// The device that holds it.
    pub device: Device,
    /// Normalised mean squared error of the resident values against the source's: sum of squared
    /// differences over sum of squares, 0 where both are zero. `None` if nothing was converted.
    pub nmse: Option<Finite>,
    /// The same of the worst part of about a megabyte, since one wrong row is lost in the mean over
    /// a large tensor; `None` if the engine does not tell it.
    #[serde(default)]
    pub worst_nmse: Option<Finite>,
    /// NaN and infinite values in the source.
    pub nonfinite: u64,
    /// What it is for in the architecture.
    #[serde(rename = "rule")]
    pub role: Role,
    /// Why the scheme did not quantize it; `None` if it did, or had nothing to.
    pub reason: Option<String>,
}

impl Tensor {
    /// Number of values; saturates where the product of the sizes is beyond 64 bits.
    pub fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |product: u64, size| product.saturating_mul(*size))
    }
}

/// Tensors that are knowingly left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Omitted {
    /// What they are.
    pub group: String,
    /// How many.
    pub tensors: u64,
    /// Their bytes in the files.
    pub bytes: u64,
}

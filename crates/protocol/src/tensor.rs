//! Resident tensors, and tensors that were left out.

use crate::{DType, Device, Finite, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A resident tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tensor {
    /// The name in the file, converted to the usual name of the architecture if the writer used
    /// another.
    pub name: String,
    /// The source file, relative to the folder of the model.
    pub file: String,
    /// The shape, rows first.
    pub shape: Vec<u64>,
    /// The type in the file.
    pub source_dtype: DType,
    /// The resident type, read from the resident storage.
    pub dtype: DType,
    /// The size of the resident storage in bytes.
    pub bytes: u64,
    /// The device of the tensor.
    pub device: Device,
    /// The normalized mean squared error of the resident values against the source: the sum of
    /// squared differences divided by the sum of squares; 0 if both are zero. `None` if nothing was
    /// converted.
    pub nmse: Option<Finite>,
    /// The normalized mean squared error of the worst part of about a megabyte, because one wrong
    /// row has little effect on the mean of a large tensor. `None` if the engine does not report
    /// it.
    #[serde(default)]
    pub worst_nmse: Option<Finite>,
    /// The number of NaN and infinite values in the source.
    #[serde(alias = "nonfinite")]
    pub non_finite: u64,
    /// The role in the architecture.
    #[serde(alias = "rule")]
    pub role: Role,
    /// Why the tensor does not have the type of the scheme. `None` if it does, or if nothing was to
    /// be quantized.
    pub reason: Option<String>,
}

impl Tensor {
    /// Returns the number of values, which saturates at 2^64 - 1.
    pub fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |product: u64, size| product.saturating_mul(*size))
    }
}

/// A group of tensors that the engine does not load, because the text model does not need them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Omitted {
    /// A description of the tensors.
    pub group: String,
    /// The number of tensors.
    pub tensors: u64,
    /// The size of the tensors in the files, in bytes.
    pub bytes: u64,
}

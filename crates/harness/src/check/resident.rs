//! The resident tensors of a worker, compared with the headers that the harness read.

use super::tensor_class::{TensorClass, class};
use crate::measurement::{HeaderTensor, Headers, Measurement};
use modelgate_protocol::{DType, Tensor};
use std::collections::HashMap;

/// A resident tensor, with the shape and the type that the header of its file states.
pub(super) struct Resident<'a> {
    /// The tensor as the worker reports it.
    pub(super) tensor: &'a Tensor,
    /// The shape in the header, rows first. For weights without files, the shape that the worker
    /// reports.
    pub(super) shape: &'a [u64],
    /// The type in the header. `None` for weights without files.
    pub(super) source: Option<&'a DType>,
    /// The class in terms of quantization.
    pub(super) class: TensorClass,
}

impl Resident<'_> {
    /// Returns the number of weights in a row.
    pub(super) fn row(&self) -> u64 {
        self.shape.last().copied().unwrap_or(0)
    }

    /// Returns the number of weights, which saturates at 2^64 - 1.
    pub(super) fn weights(&self) -> u64 {
        self.shape.iter().fold(1, |product: u64, size| product.saturating_mul(*size))
    }

    /// Returns whether the file contains blocks of quantized values, as GGUF files do.
    pub(super) fn has_blocks_in_file(&self) -> bool {
        self.source.is_some_and(DType::is_quantized)
    }
}

/// Returns the resident tensors. `in_place` says that the weights have no files.
///
/// # Errors
/// The headers are not known, or the worker reports a tensor that differs from them.
pub(super) fn resident(
    measurement: &Measurement,
    in_place: bool,
) -> Result<Vec<Resident<'_>>, String> {
    let headers = match &measurement.headers {
        _ if in_place => None,
        Some(Headers::Read { tensors, .. }) => Some(by_name(tensors)),
        None => return Err("the headers of the weight files were not read".into()),
        Some(Headers::Unreadable { message }) => {
            return Err(format!("the header of a weight file cannot be read: {message}"));
        }
    };
    let list = &measurement.tensors.list;
    list.iter().map(|tensor| compared(tensor, headers.as_ref())).collect()
}

fn by_name(tensors: &[HeaderTensor]) -> HashMap<&str, &HeaderTensor> {
    tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect()
}

/// Returns the resident tensor with the values of its header.
fn compared<'a>(
    tensor: &'a Tensor,
    headers: Option<&HashMap<&str, &'a HeaderTensor>>,
) -> Result<Resident<'a>, String> {
    let name = &tensor.name;
    let (shape, source) = match headers {
        None => (&tensor.shape, None),
        Some(headers) => {
            let Some(header) = headers.get(name.as_str()) else {
                return Err(format!("no weight file contains the resident tensor {name}"));
            };
            if header.shape != tensor.shape {
                return Err(format!(
                    "{name} has shape {:?} in the header of {}, but the worker reports {:?}",
                    header.shape, header.file, tensor.shape
                ));
            }
            if header.dtype != tensor.source_dtype {
                return Err(format!(
                    "{name} has type {} in the header of {}, but the worker reports {}",
                    header.dtype, header.file, tensor.source_dtype
                ));
            }
            (&header.shape, Some(&header.dtype))
        }
    };
    Ok(Resident { tensor, shape, source, class: class(name, shape) })
}

//! The failures of unusable tensors.

use super::inspect::Defect;
use super::loaded_tensor::LoadedTensor;
use crate::failures;
use modelgate_protocol::{Failure, FailureKind, Role};

/// Returns the failure of an unusable tensor; `None` if the tensor is usable.
pub(super) fn unusable(
    name: &str,
    file: &str,
    role: Role,
    loaded: &LoadedTensor,
) -> Option<Failure> {
    let zeros_are_invalid = role.is_quantizable() || matches!(role, Role::Norm | Role::Router);
    if let Some(matrix) = loaded.first_zero_matrix.filter(|_| zeros_are_invalid) {
        let subject = match role {
            Role::Expert if loaded.matrices.len() > 1 => {
                format!("expert {matrix} of tensor {name}")
            }
            _ => format!("tensor {name}"),
        };
        return Some(failures::load(
            FailureKind::Corrupt,
            format!("{subject} in {file} contains only zeros"),
            "download the file again; an interrupted download can leave a file of the right size \
             without content",
        ));
    }
    let (message, hint) = match loaded.defect? {
        Defect::NonFinite(at) => (
            format!(
                "tensor {name} in {file}: NaN or infinite values: {}, the first at index {at}",
                loaded.non_finite
            ),
            "download the checkpoint again; or report the values to its publisher",
        ),
        Defect::ScaleOverflow(at) => (
            format!(
                "tensor {name} in {file} cannot be quantized: the scale of the block of the \
                 value at index {at} is outside the range of f16"
            ),
            "check the checkpoint, whose weights are far larger than those of a trained model; or \
             set quantization = \"none\"",
        ),
    };
    Some(failures::load(FailureKind::NonFinite, message, hint))
}

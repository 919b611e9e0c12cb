//! The failure of a tensor that cannot be used.

use super::filled::Filled;
use super::inspect::Defect;
use crate::failures;
use modelgate_protocol::{Failure, FailureKind, Role};

/// Makes the failure of a tensor that cannot be used; returns `None` if it can.
pub(super) fn unusable(name: &str, file: &str, role: Role, filled: &Filled) -> Option<Failure> {
    let matters = role.is_quantizable() || matches!(role, Role::Norm | Role::Router);
    if let Some(matrix) = filled.zero.filter(|_| matters) {
        let what = match role {
            Role::Expert if filled.residents.len() > 1 => {
                format!("expert {matrix} of tensor {name}")
            }
            _ => format!("tensor {name}"),
        };
        return Some(failures::load(
            FailureKind::Corrupt,
            format!("{what} in {file} contains only zeros"),
            "download the file again: an interrupted download leaves files of the right size \
             without content",
        ));
    }
    let (message, hint) = match filled.defect? {
        Defect::NonFinite(at) => (
            format!(
                "tensor {name} in {file} has {} values that are NaN or infinite, the first at \
                 index {at}",
                filled.nonfinite
            ),
            "download the damaged checkpoint again, or ask its publisher",
        ),
        Defect::ScaleOverflow(at) => (
            format!(
                "tensor {name} in {file} cannot be quantized: the scale of the block with index \
                 {at} is beyond the range of f16"
            ),
            "check the checkpoint, whose weights are far larger than those of a trained model, \
             or set quantization = \"none\"",
        ),
    };
    Some(failures::load(FailureKind::NonFinite, message, hint))
}

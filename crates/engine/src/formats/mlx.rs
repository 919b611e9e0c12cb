//! Safetensors files with weights that MLX quantized.
//!
//! Source: `mx.quantize` of MLX. A matrix (rows, columns) is stored as three tensors: `weight` with
//! the values packed in words of 32 bits, and `scales` and `biases` with one value for each group of
//! columns.

use super::source::Source;
use crate::failures;
use modelgate_protocol::{DType, Failure, FailureKind};

/// Refuses files with matrices that MLX quantized.
///
/// # Errors
/// The message names the first such matrix, and the lengths of its rows.
pub(super) fn refuse_mlx(source: &Source) -> Result<(), Failure> {
    let words = DType::Other("u32".into());
    for (name, scales) in &source.tensors {
        let Some(stem) = name.strip_suffix(".scales") else { continue };
        let Some(weight) = source.tensors.get(&format!("{stem}.weight")) else { continue };
        if weight.dtype != words || !source.tensors.contains_key(&format!("{stem}.biases")) {
            continue;
        }
        let columns = |shape: &[usize]| shape.last().copied().unwrap_or(0);
        return Err(failures::load(
            FailureKind::Unsupported,
            format!(
                "{}: tensor {stem}.weight is quantized by MLX: expected f32, f16 or bf16, found words \
                 of 32 bits with {stem}.scales and {stem}.biases, {} words and {} groups in each row",
                source.file_name(weight),
                columns(&weight.shape),
                columns(&scales.shape),
            ),
            "use the checkpoint in bf16, f16 or f32 from which the file was converted; or a GGUF file",
        ));
    }
    Ok(())
}

//! Experts of a layer that are one tensor on a device, as candle's fused kernels for mixtures of
//! experts require.

use super::{DeviceMatrix, Resident};
use candle_core::quantized::QTensor;
use modelgate_protocol::DType;
use std::sync::Arc;

/// Returns whether candle has a fused kernel for experts of that type whose rows have so many
/// columns. It keeps four rows in shared memory, of which there are 48 KiB, and if they do not fit
/// it does not run and reports nothing (`moe_gguf.cu` of candle-kernels 0.11.1).
pub(crate) fn has_fused_kernel(dtype: &DType, columns: usize) -> bool {
    use DType::{Q2K, Q3K, Q4K, Q5K, Q6K, Q8_0};
    let has_kernel = matches!(dtype, Q2K | Q3K | Q4K | Q5K | Q6K | Q8_0);
    let row = dtype.bytes(columns as u64);
    has_kernel && row.is_some_and(|row| 4 * row + 1024 <= 48 << 10)
}

/// Returns the tensor of which these matrices are the equal parts, in order; `None` if they are not.
pub(crate) fn merged_tensor(parts: &[&Resident]) -> Option<Arc<QTensor>> {
    let matrices: Vec<&DeviceMatrix> = parts
        .iter()
        .map(|part| match part {
            Resident::Device(matrix) => Some(matrix),
            _ => None,
        })
        .collect::<Option<_>>()?;
    DeviceMatrix::merged_tensor(&matrices)
}

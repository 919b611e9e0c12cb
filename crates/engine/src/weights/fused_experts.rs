//! Experts of a layer that are merged into one tensor on a device, as candle's fused kernels for
//! mixtures of experts require.

use super::{DeviceMatrix, ResidentTensor};
use candle_core::quantized::QTensor;
use modelgate_protocol::DType;
use std::sync::Arc;

/// Returns whether candle has a fused kernel for experts of type `dtype` with rows of `columns`
/// values. The kernel keeps four rows in 48 KiB of shared memory. If the rows do not fit, the
/// kernel does not run and does not report an error (`moe_gguf.cu` of candle-kernels 0.11.1).
pub(crate) fn has_fused_kernel(dtype: &DType, columns: usize) -> bool {
    use DType::{Q2K, Q3K, Q4K, Q5K, Q6K, Q8_0};
    let has_kernel = matches!(dtype, Q2K | Q3K | Q4K | Q5K | Q6K | Q8_0);
    let row = dtype.bytes(columns as u64);
    has_kernel && row.is_some_and(|row| 4 * row + 1024 <= 48 << 10)
}

/// Returns the merged tensor of which `parts` are all matrices, in order. `None` if the parts are
/// not on a device, or are not all matrices of one merged tensor, in this order.
pub(crate) fn merged_tensor(parts: &[&ResidentTensor]) -> Option<Arc<QTensor>> {
    let matrices: Vec<&DeviceMatrix> = parts
        .iter()
        .map(|part| match part {
            ResidentTensor::Device(matrix) => Some(matrix),
            _ => None,
        })
        .collect::<Option<_>>()?;
    DeviceMatrix::merged_tensor(&matrices)
}

//! Conversions between tensors and the device memory that kernels read and write.

use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Result, Storage, Tensor, bail};

/// Returns the device address of the first value of a contiguous tensor.
///
/// # Errors
/// The tensor is not contiguous, not on a CUDA device, or of another type than `T`.
pub(super) fn address<T: CudaDType + DeviceRepr>(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, found {layout:?}")
    };
    match &*storage {
        Storage::Cuda(storage) => {
            let slice = storage.as_cuda_slice::<T>()?;
            Ok(slice.device_ptr(slice.stream()).0 + (start * size_of::<T>()) as u64)
        }
        _ => bail!("expected a tensor on a CUDA device"),
    }
}

/// Creates a tensor of this shape from `memory`.
pub(super) fn tensor<T: CudaDType + DeviceRepr>(
    memory: CudaSlice<T>,
    cuda: &CudaDevice,
    shape: &[usize],
) -> Tensor {
    let storage = CudaStorage::wrap_cuda_slice(memory, cuda.clone());
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

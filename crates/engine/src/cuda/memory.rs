//! Device memory for tensors, and copies between device memory and host memory.

use super::driver_failures::driver_failure;
use super::tensors::tensor;
use super::{Gpu, Region};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, result};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::quantized::cuda::QCudaStorage;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{CudaDevice, Result, Tensor, bail};
use half::{bf16, f16};
use modelgate_protocol::DType;
use std::sync::Arc;

impl Gpu {
    /// Allocates a tensor of zeros of a quantized type with the shape (rows, columns), or (experts,
    /// rows, columns) for stacked matrices of experts. Returns the tensor and its region of device
    /// memory.
    pub(crate) fn blocks(
        &self,
        dtype: GgmlDType,
        shape: &[usize],
    ) -> Result<(Arc<QTensor>, Region)> {
        let storage = QCudaStorage::zeros(self.cuda()?, shape.iter().product(), dtype)?;
        let bytes = storage.storage_size_in_bytes() as u64;
        let tensor = QTensor::new(QStorage::Cuda(storage), shape)?;
        let address = tensor.device_ptr()? as u64;
        Ok((Arc::new(tensor), Region { address, bytes }))
    }

    /// Allocates an uninitialized tensor of a float type. Returns the tensor and its region of
    /// device memory.
    ///
    /// # Errors
    /// The type is not a float type, or the memory cannot be allocated.
    pub(crate) fn values(&self, dtype: &DType, shape: &[usize]) -> Result<(Tensor, Region)> {
        let cuda = self.cuda()?;
        let count = shape.iter().product();
        match dtype {
            // SAFETY: the caller writes the complete memory before it is read.
            DType::F32 => with_region(unsafe { cuda.alloc::<f32>(count) }?, cuda, shape),
            // SAFETY: the caller writes the complete memory before it is read.
            DType::F16 => with_region(unsafe { cuda.alloc::<f16>(count) }?, cuda, shape),
            // SAFETY: the caller writes the complete memory before it is read.
            DType::Bf16 => with_region(unsafe { cuda.alloc::<bf16>(count) }?, cuda, shape),
            other => bail!("tensor type: expected a float type, found {other}"),
        }
    }

    /// Copies `bytes` to a region of the same length, and waits for the copy.
    pub(crate) fn upload(&self, region: Region, bytes: &[u8]) -> Result<()> {
        debug_assert_eq!(region.bytes, bytes.len() as u64);
        let copy = || {
            self.wait()?;
            // SAFETY: the region has the length of `bytes` and belongs to a live tensor; the copy
            // has ended when the function returns.
            unsafe { result::memcpy_htod_sync(region.address, bytes) }
        };
        copy().map_err(|error| candle_core::Error::Msg(driver_failure(self.name())(error).message))
    }

    /// Copies a region to `bytes` of the same length, and waits for the copy.
    ///
    /// # Errors
    /// The lengths differ, or the driver fails.
    pub(crate) fn download(&self, region: Region, bytes: &mut [u8]) -> Result<()> {
        if region.bytes != bytes.len() as u64 {
            bail!("download: expected a buffer of {} bytes, found {}", region.bytes, bytes.len())
        }
        let stream = self.cuda()?.cuda_stream();
        self.context().bind_to_thread().w()?;
        // SAFETY: the region belongs to a live tensor and has the length of the buffer, which is
        // not read before the copy has ended.
        unsafe { result::memcpy_dtoh_async(bytes, region.address, stream.cu_stream()) }.w()?;
        stream.synchronize().w()
    }
}

/// Returns allocated memory as a tensor of this shape, and its region.
fn with_region<T: CudaDType + DeviceRepr>(
    memory: CudaSlice<T>,
    cuda: &CudaDevice,
    shape: &[usize],
) -> Result<(Tensor, Region)> {
    let region =
        Region { address: memory.device_ptr(memory.stream()).0, bytes: memory.num_bytes() as u64 };
    Ok((tensor(memory, cuda, shape), region))
}

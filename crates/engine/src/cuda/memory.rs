//! Device memory for tensors, and copies between it and the host.

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
    /// Allocates memory for quantized values of that type and shape (rows last but one; an expert's
    /// matrices below each other), all zeros.
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

    /// Allocates memory for values of a float type, which is not written yet.
    pub(crate) fn values(&self, dtype: &DType, shape: &[usize]) -> Result<(Tensor, Region)> {
        let cuda = self.cuda()?;
        let count = shape.iter().product();
        match dtype {
            // SAFETY: the caller writes all of the memory before it is read.
            DType::F32 => wrapped(unsafe { cuda.alloc::<f32>(count) }?, cuda, shape),
            // SAFETY: as above.
            DType::F16 => wrapped(unsafe { cuda.alloc::<f16>(count) }?, cuda, shape),
            // SAFETY: as above.
            DType::Bf16 => wrapped(unsafe { cuda.alloc::<bf16>(count) }?, cuda, shape),
            other => bail!("{other} is not a float type"),
        }
    }

    /// Copies bytes to a region of their length, and waits for the copy.
    pub(crate) fn upload(&self, region: Region, bytes: &[u8]) -> Result<()> {
        debug_assert_eq!(region.bytes, bytes.len() as u64);
        let copy = || {
            self.wait()?;
            // SAFETY: the region is as long as the bytes and belongs to a live tensor; the copy is
            // over when this returns.
            unsafe { result::memcpy_htod_sync(region.address, bytes) }
        };
        copy().map_err(|error| candle_core::Error::Msg(driver_failure(self.name())(error).message))
    }

    /// Copies a region to a buffer of its length.
    pub(crate) fn download(&self, region: Region, bytes: &mut [u8]) -> Result<()> {
        if region.bytes != bytes.len() as u64 {
            bail!("{} bytes of the device into {} of the host", region.bytes, bytes.len())
        }
        let stream = self.cuda()?.cuda_stream();
        self.context().bind_to_thread().w()?;
        // SAFETY: the region belongs to a live tensor and is as long as the buffer, which is not
        // read before the copy is over.
        unsafe { result::memcpy_dtoh_async(bytes, region.address, stream.cu_stream()) }.w()?;
        stream.synchronize().w()
    }
}

/// Makes a tensor of new memory, and returns it with its region.
fn wrapped<T: CudaDType + DeviceRepr>(
    memory: CudaSlice<T>,
    cuda: &CudaDevice,
    shape: &[usize],
) -> Result<(Tensor, Region)> {
    let region =
        Region { address: memory.device_ptr(memory.stream()).0, bytes: memory.num_bytes() as u64 };
    Ok((tensor(memory, cuda, shape), region))
}

//! Tensors on a device: memory for weights that are written later, and random weights in place.

use super::{Gpu, Region, kernels};
use crate::storage::ggml_dtype;
use crate::synthetic::BlockRecipe;
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DevicePtr, LaunchConfig, PushKernelArg, result,
};
use candle_core::op::BackpropOp;
use candle_core::quantized::cuda::QCudaStorage;
use candle_core::quantized::{QStorage, QTensor};
use candle_core::{CudaDevice, CudaStorage, Result, Storage, Tensor, bail};
use half::{bf16, f16};
use modelgate_protocol::DType;
use std::sync::Arc;

const MODULE: &str = "modelgate_random";
/// Blocks of threads for a kernel that strides over its whole output.
const GRID: u32 = 4096;
const THREADS: u32 = 256;

/// Makes the driver compile the kernels of this file.
pub(super) fn load(cuda: &CudaDevice) -> Result<()> {
    cuda.get_or_load_custom_func("random_blocks", MODULE, kernels::RANDOM).map(drop)
}

impl Gpu {
    /// Memory for quantized values of that type and shape (rows last but one; an expert's matrices
    /// below each other), all zeros.
    pub(crate) fn blocks(&self, dtype: &DType, shape: &[usize]) -> Result<(Arc<QTensor>, Region)> {
        let Some(ggml) = ggml_dtype(dtype) else { bail!("{dtype} is no block type") };
        let storage = QCudaStorage::zeros(self.cuda()?, shape.iter().product(), ggml)?;
        let bytes = storage.storage_size_in_bytes() as u64;
        let tensor = QTensor::new(QStorage::Cuda(storage), shape)?;
        let address = tensor.device_ptr()? as u64;
        Ok((Arc::new(tensor), Region { address, bytes }))
    }

    /// Memory for values of a float type, not yet written.
    pub(crate) fn values(&self, dtype: &DType, shape: &[usize]) -> Result<(Tensor, Region)> {
        let cuda = self.cuda()?;
        let count = shape.iter().product();
        match dtype {
            // SAFETY: whoever asks for the memory writes all of it before it is read.
            DType::F32 => wrapped(unsafe { cuda.alloc::<f32>(count) }?, cuda, shape),
            // SAFETY: as above.
            DType::F16 => wrapped(unsafe { cuda.alloc::<f16>(count) }?, cuda, shape),
            // SAFETY: as above.
            DType::Bf16 => wrapped(unsafe { cuda.alloc::<bf16>(count) }?, cuda, shape),
            other => bail!("{other} is no float type"),
        }
    }

    /// Reads a region into a buffer of its length.
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

    /// Writes random blocks.
    pub(crate) fn random_blocks(
        &self,
        region: Region,
        recipe: &BlockRecipe,
        seed: u64,
    ) -> Result<()> {
        let cuda = self.cuda()?;
        let halves = region.bytes / 2;
        let block = cuda.clone_htod(recipe.halves())?;
        let (size, random) = (recipe.halves().len() as u32, recipe.random_halves());
        let (from, to) = (random.start as u32, random.end as u32);
        let function = cuda.get_or_load_custom_func("random_blocks", MODULE, kernels::RANDOM)?;
        let mut builder = function.builder();
        builder.arg(&region.address).arg(&halves).arg(&block).arg(&size);
        builder.arg(&from).arg(&to).arg(&seed);
        // SAFETY: the kernel writes the region, which belongs to a live tensor, and reads `size`
        // halves of the block.
        unsafe { builder.launch(strided()) }.w().map(drop)
    }

    /// Writes values spread evenly from `-scale` to `scale`.
    pub(crate) fn random_bf16(&self, region: Region, scale: f32, seed: u64) -> Result<()> {
        let cuda = self.cuda()?;
        let count = region.bytes / 2;
        let function = cuda.get_or_load_custom_func("random_bf16", MODULE, kernels::RANDOM)?;
        let mut builder = function.builder();
        builder.arg(&region.address).arg(&count).arg(&scale).arg(&seed);
        // SAFETY: the kernel writes the region, which belongs to a live tensor.
        unsafe { builder.launch(strided()) }.w().map(drop)
    }
}

fn strided() -> LaunchConfig {
    LaunchConfig { grid_dim: (GRID, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }
}

/// A tensor over new memory, and where that is.
fn wrapped<T>(memory: CudaSlice<T>, cuda: &CudaDevice, shape: &[usize]) -> Result<(Tensor, Region)>
where
    T: candle_core::cuda_backend::CudaDType + candle_core::cuda_backend::cudarc::driver::DeviceRepr,
{
    let region =
        Region { address: memory.device_ptr(memory.stream()).0, bytes: memory.num_bytes() as u64 };
    let storage = CudaStorage::wrap_cuda_slice(memory, cuda.clone());
    debug_assert_eq!(storage.device().id(), cuda.id());
    let tensor = Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false);
    Ok((tensor, region))
}

//! Random weights, made on the device.

use super::{Gpu, Region, kernels};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::{CudaDevice, Result};
use std::ops::Range;

const MODULE: &str = "modelgate_random";
/// Blocks of threads for a kernel that strides over its whole output.
const GRID: u32 = 4096;
const THREADS: u32 = 256;

/// Loads the kernels of this file, which the driver compiles if it has not before.
pub(super) fn load(cuda: &CudaDevice) -> Result<()> {
    cuda.get_or_load_custom_func("random_blocks", MODULE, kernels::RANDOM).map(drop)
}

impl Gpu {
    /// Writes blocks of that pattern, of which the numbers in `random` are random.
    pub(crate) fn random_blocks(
        &self,
        region: Region,
        pattern: &[u16],
        random: Range<usize>,
        seed: u64,
    ) -> Result<()> {
        let cuda = self.cuda()?;
        let halves = region.bytes / 2;
        let block = cuda.clone_htod(pattern)?;
        let size = pattern.len() as u32;
        let (from, to) = (random.start as u32, random.end as u32);
        let function = cuda.get_or_load_custom_func("random_blocks", MODULE, kernels::RANDOM)?;
        let mut builder = function.builder();
        builder.arg(&region.address).arg(&halves).arg(&block).arg(&size);
        builder.arg(&from).arg(&to).arg(&seed);
        // SAFETY: the kernel writes the region, which belongs to a live tensor, and reads `size`
        // numbers of the block.
        unsafe { builder.launch(strided()) }.w().map(drop)
    }

    /// Writes values that are uniform from `-scale` to `scale`.
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

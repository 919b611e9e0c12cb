//! Random weights that are generated on the device.

use super::{Gpu, Region, kernels};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::{CudaDevice, Result};
use std::ops::Range;

/// The name of the module under which candle caches the kernels.
const MODULE: &str = "modelgate_random";
/// The number of blocks of threads. The threads of a kernel stride over its complete output.
const GRID: u32 = 4096;
/// The number of threads in a block.
const THREADS: u32 = 256;

/// Loads the kernels of this file. The driver compiles them if they are not in its cache.
pub(super) fn load(cuda: &CudaDevice) -> Result<()> {
    cuda.get_or_load_custom_func("random_blocks", MODULE, kernels::RANDOM).map(drop)
}

impl Gpu {
    /// Fills a region with copies of `pattern`, a block of 16-bit values. In each copy, the values at
    /// the indices in `random` are replaced with random values.
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
        // SAFETY: the kernel writes only the region, which belongs to a live tensor, and reads
        // `size` numbers of the block.
        unsafe { builder.launch(strided_launch()) }.w().map(drop)
    }

    /// Fills a region with bf16 values that are uniformly distributed from `-scale` to `scale`.
    pub(crate) fn random_bf16(&self, region: Region, scale: f32, seed: u64) -> Result<()> {
        let cuda = self.cuda()?;
        let count = region.bytes / 2;
        let function = cuda.get_or_load_custom_func("random_bf16", MODULE, kernels::RANDOM)?;
        let mut builder = function.builder();
        builder.arg(&region.address).arg(&count).arg(&scale).arg(&seed);
        // SAFETY: the kernel writes only the region, which belongs to a live tensor.
        unsafe { builder.launch(strided_launch()) }.w().map(drop)
    }
}

/// Returns the launch configuration of a kernel whose threads stride over its output.
fn strided_launch() -> LaunchConfig {
    LaunchConfig { grid_dim: (GRID, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }
}

//! Loads all kernels before the first kernel is used.

use super::kernel_cache::KernelCache;
use super::{Gpu, attention, random};
use crate::failures;
use candle_core::cuda_backend::kernels::{self, Module};
use modelgate_protocol::{Failure, FailureKind};

/// The modules of candle with kernels that a decoder uses, each with the name of one of its
/// kernels.
const KERNELS: [(&str, &Module); 9] = [
    ("affine_f32", &kernels::AFFINE),
    ("badd_f32", &kernels::BINARY),
    ("cast_f32_f16", &kernels::CAST),
    ("fill_f32", &kernels::FILL),
    ("is_u32_f32", &kernels::INDEXING),
    ("get_rows_q4_0", &kernels::QUANTIZED),
    ("rmsnorm_f32", &kernels::REDUCE),
    ("asort_desc_f32", &kernels::SORT),
    ("usilu_f32", &kernels::UNARY),
];

impl Gpu {
    /// Loads all kernels that will be used. The driver compiles those that are not in its cache.
    ///
    /// # Errors
    /// A kernel cannot be loaded.
    pub(crate) fn load_kernels(&self) -> Result<(), Failure> {
        let cache = KernelCache::find();
        let before = cache.as_ref().map(KernelCache::bytes);
        let load = || -> candle_core::Result<()> {
            let cuda = self.cuda()?;
            for (kernel, module) in KERNELS {
                cuda.get_or_load_func(kernel, module)?;
            }
            attention::load(cuda)?;
            random::load(cuda)
        };
        load().map_err(|error| {
            failures::start(
                FailureKind::DeviceMismatch,
                format!("{}: the kernels cannot be loaded: {error}", self.name()),
                "build the worker on this host; or update the NVIDIA driver",
            )
        })?;
        let cached = before.zip(cache.as_ref().map(KernelCache::bytes));
        // the cache grows if the driver has compiled kernels
        self.set_kernels_cached(cached.map(|(before, after)| before == after));
        Ok(())
    }
}

//! The properties of a device that candle's matrix kernels choose their tiles by.

use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, sys};

/// The properties of a device that candle's matrix kernels choose their tiles by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chip {
    /// The compute capability: 900 for 9.0.
    pub(super) capability: i32,
    /// Multiprocessors.
    pub(super) processors: i32,
    /// Shared memory of a block of threads.
    pub(super) shared_bytes: i64,
    /// Threads of a warp.
    pub(super) warp: i32,
}

impl Chip {
    /// Reads the properties from the driver.
    pub(super) fn of(context: &CudaContext) -> Result<Chip, DriverError> {
        use sys::CUdevice_attribute_enum as Attribute;
        let (major, minor) = context.compute_capability()?;
        let shared = Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        Ok(Chip {
            capability: 100 * major + 10 * minor,
            processors: context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_bytes: i64::from(context.attribute(shared)?),
            warp: context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE)?,
        })
    }
}

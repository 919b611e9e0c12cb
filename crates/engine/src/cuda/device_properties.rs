//! The properties of a device by which candle's matrix kernels select their tiles.

use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, sys};

/// The properties of a device by which candle's matrix kernels select their tiles.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeviceProperties {
    /// The compute capability times 100, for example 900 for 9.0.
    pub(super) capability: i32,
    /// The number of multiprocessors.
    pub(super) multiprocessors: i32,
    /// The maximum shared memory of a block of threads, in bytes.
    pub(super) shared_bytes: i64,
    /// The number of threads in a warp.
    pub(super) warp: i32,
}

impl DeviceProperties {
    /// Reads the properties from the driver.
    pub(super) fn of(context: &CudaContext) -> Result<DeviceProperties, DriverError> {
        use sys::CUdevice_attribute_enum as Attribute;
        let (major, minor) = context.compute_capability()?;
        let shared = Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        Ok(DeviceProperties {
            capability: 100 * major + 10 * minor,
            multiprocessors: context
                .attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_bytes: i64::from(context.attribute(shared)?),
            warp: context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE)?,
        })
    }
}

//! Checks that the driver and a device are compatible with this build.

use super::build_info::{COMPUTE_CAPABILITY, CUDA_VERSION};
use super::driver_failures::driver_failure;
use crate::failures;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, sys};
use modelgate_protocol::{Failure, FailureKind};

/// Checks that the driver supports the major CUDA version with which this worker was built.
///
/// # Errors
/// `device_mismatch` if the driver is older.
pub(super) fn check_driver() -> Result<(), Failure> {
    let mut found = 0;
    // SAFETY: the function writes one integer.
    let status = unsafe { sys::cuDriverGetVersion(&raw mut found) };
    let built = CUDA_VERSION;
    let major: i32 = built.split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    if status == sys::CUresult::CUDA_SUCCESS && found / 1000 >= major {
        return Ok(());
    }
    Err(failures::start(
        FailureKind::DeviceMismatch,
        format!(
            "NVIDIA driver: expected support for CUDA {built}, with which this worker was \
             built, found CUDA {}.{}",
            found / 1000,
            found % 1000 / 10
        ),
        "update the driver; or build the worker with an older CUDA toolkit",
    ))
}

/// Checks that the device has the compute capability for which this worker was built. Some kernels
/// are machine code for a single compute capability; on another device, their launches fail without
/// an error.
///
/// # Errors
/// `device_mismatch` if the compute capability is different or the driver fails.
pub(super) fn check_compute_capability(name: &str, context: &CudaContext) -> Result<(), Failure> {
    let (major, minor) = context.compute_capability().map_err(driver_failure(name))?;
    let (found, built) = (format!("{major}.{minor}"), COMPUTE_CAPABILITY);
    if found == built {
        return Ok(());
    }
    Err(failures::start(
        FailureKind::DeviceMismatch,
        format!(
            "{name} ({}): expected compute capability {built}, for which this worker was built, \
             found {found}",
            context.name().unwrap_or_default()
        ),
        format!(
            "build the worker for this GPU with `CUDA_COMPUTE_CAP={} cargo build --release \
             --features cuda`",
            found.replace('.', "")
        ),
    ))
}

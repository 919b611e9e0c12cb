//! Compares the driver and a device with what this build was compiled for.

use super::build_info::{COMPUTE_CAPABILITY, CUDA_VERSION};
use super::driver_failures::driver_failure;
use crate::failures;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, sys};
use modelgate_protocol::{Failure, FailureKind};

/// Refuses a driver that is older than the CUDA version that this build was made with.
pub(super) fn refuse_driver() -> Result<(), Failure> {
    let mut found = 0;
    // SAFETY: writes one integer.
    let answer = unsafe { sys::cuDriverGetVersion(&raw mut found) };
    let built = CUDA_VERSION;
    let major: i32 = built.split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    if answer == sys::CUresult::CUDA_SUCCESS && found / 1000 >= major {
        return Ok(());
    }
    Err(failures::start(
        FailureKind::DeviceMismatch,
        format!(
            "the NVIDIA driver supports CUDA {}.{}, and this worker was built with CUDA {built}",
            found / 1000,
            found % 1000 / 10
        ),
        "update the driver, or build the worker with an older CUDA toolkit",
    ))
}

/// Refuses a device of another compute capability: some kernels are machine code for one alone, and
/// their launches would fail without an error.
pub(super) fn refuse_capability(name: &str, context: &CudaContext) -> Result<(), Failure> {
    let (major, minor) = context.compute_capability().map_err(driver_failure(name))?;
    let (found, built) = (format!("{major}.{minor}"), COMPUTE_CAPABILITY);
    if found == built {
        return Ok(());
    }
    Err(failures::start(
        FailureKind::DeviceMismatch,
        format!(
            "{name} ({}) has compute capability {found}, and this worker was built for {built}",
            context.name().unwrap_or_default()
        ),
        format!(
            "build the worker for this GPU: CUDA_COMPUTE_CAP={} cargo build --release --features \
             cuda",
            found.replace('.', "")
        ),
    ))
}

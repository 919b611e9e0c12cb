//! Failures of the NVIDIA driver.

use crate::failures;
use candle_core::cuda_backend::cudarc::driver::{DriverError, sys};
use modelgate_protocol::{Failure, FailureKind, Stage};

/// Returns a function that converts the errors of the driver to failures of the start stage.
pub(super) fn driver_failure(device: &str) -> impl Fn(DriverError) -> Failure + '_ {
    move |error| {
        if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return failures::device_memory(Stage::Start, format!("{device}: {error}"));
        }
        failures::start(
            FailureKind::DeviceMismatch,
            format!("{device}: the NVIDIA driver failed: {error}"),
            "check `nvidia-smi` and the system log; restart the host after an update of the driver",
        )
    }
}

/// Returns a function that converts the errors of the driver to failures of `stage`, in which a
/// model is on the device.
pub(super) fn running_failure(device: &str, stage: Stage) -> impl Fn(DriverError) -> Failure + '_ {
    move |error| {
        if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return failures::device_memory(stage, format!("{device}: {error}"));
        }
        Failure::new(
            stage,
            FailureKind::DeviceFault,
            format!("{device}: the operation failed: {error}"),
            "check the system log for Xid errors; if there are none, report this defect of \
             modelgate with the name of the model",
        )
    }
}

/// Creates the failure for a device that candle cannot open. `error` is the text of candle's error.
pub(super) fn opening_failure(device: &str, error: &str) -> Failure {
    let missing = ["CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_INVALID_DEVICE"];
    let (kind, hint) = if missing.iter().any(|code| error.contains(code)) {
        (
            FailureKind::DeviceNotFound,
            "compare the device with `nvidia-smi -L` and `CUDA_VISIBLE_DEVICES`",
        )
    } else {
        (FailureKind::DeviceMismatch, "check `nvidia-smi` and the system log")
    };
    failures::start(kind, format!("{device}: the device cannot be opened: {error}"), hint)
}

//! Failures of the NVIDIA driver.

use crate::failures;
use candle_core::cuda_backend::cudarc::driver::{DriverError, sys};
use modelgate_protocol::{Failure, FailureKind, Stage};

/// Returns a function that makes failures of the driver's errors while a device is opened.
pub(super) fn driver_failure(device: &str) -> impl Fn(DriverError) -> Failure + '_ {
    move |error| {
        if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return failures::device_memory(Stage::Start, format!("{device}: {error}"));
        }
        failures::start(
            FailureKind::DeviceMismatch,
            format!("{device}: the NVIDIA driver failed: {error}"),
            "look at `nvidia-smi` and the system's log; a driver that was updated needs a restart",
        )
    }
}

/// Returns a function that makes failures of the driver's errors while a model is on the device.
pub(super) fn running_failure(device: &str, stage: Stage) -> impl Fn(DriverError) -> Failure + '_ {
    move |error| {
        if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return failures::device_memory(stage, format!("{device}: {error}"));
        }
        Failure::new(
            stage,
            FailureKind::DeviceWrong,
            format!("{device} failed: {error}"),
            "look for Xid errors in the system's log; without any it is a defect of modelgate: \
             please report it with the model's name",
        )
    }
}

/// Makes the failure for a device that candle cannot open.
pub(super) fn opening_failure(device: &str, error: &str) -> Failure {
    let missing = ["CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_INVALID_DEVICE"];
    let (kind, hint) = if missing.iter().any(|code| error.contains(code)) {
        (FailureKind::NoDevice, "`nvidia-smi -L` lists the GPUs; CUDA_VISIBLE_DEVICES hides some")
    } else {
        (FailureKind::DeviceMismatch, "look at `nvidia-smi` and the system's log")
    };
    failures::start(kind, format!("{device} cannot be opened: {error}"), hint)
}

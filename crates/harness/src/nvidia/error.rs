//! The reasons why a model cannot be measured on the GPUs that it requests.

use super::inventory::{Gpu, capability_digits};
use super::survey::VERSION_MISMATCH;
use super::unreadable::UnreadableGpu;
use crate::reportable::Reportable;
use crate::settings::variables::{CUDA_COMPUTE_CAP, CUDA_VISIBLE_DEVICES};
use crate::signal;
use modelgate_model::units::{counted, format_duration};
use modelgate_protocol::{Device, FailureKind};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The reason why a model cannot be measured on the GPUs that it requests.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// The device does not exist on this host, or is hidden.
    #[error("{model} needs GPU {device}, which is not available: {reason}")]
    Missing {
        /// The id of the model.
        model: String,
        /// The requested device.
        device: Device,
        /// The reason why the device does not exist.
        reason: MissingGpu,
    },
    /// The driver cannot read the GPU.
    #[error("{model} needs GPU {device}, which cannot be used: {gpu}")]
    Unreadable {
        /// The id of the model.
        model: String,
        /// The requested device.
        device: Device,
        /// The GPU, with the error of NVML.
        gpu: Box<UnreadableGpu>,
    },
    /// The GPU is in MIG mode: its memory cannot be measured.
    #[error(
        "{model} needs GPU {device}, which is {} ({}) in MIG mode: the memory of MIG slices \
         cannot be measured",
        gpu.name,
        gpu.uuid
    )]
    MigMode {
        /// The id of the model.
        model: String,
        /// The requested device.
        device: Device,
        /// The GPU.
        gpu: Box<Gpu>,
    },
    /// The device is a slice of a GPU in MIG mode.
    #[error(
        "{model} needs GPU {device}, which {CUDA_VISIBLE_DEVICES} sets to {slice}, a MIG \
         slice: the memory of MIG slices cannot be measured"
    )]
    MigSlice {
        /// The id of the model.
        model: String,
        /// The requested device.
        device: Device,
        /// The name of the slice.
        slice: String,
    },
    /// The worker was built without CUDA.
    #[error("the worker {} (engine {engine}) was built without CUDA", program.display())]
    WithoutCuda {
        /// The worker program.
        program: PathBuf,
        /// The name of its engine.
        engine: String,
    },
    /// The worker was built for GPUs of another compute capability.
    #[error(
        "the worker {} was built for compute capability {built}, and {device} ({}, {}) has {}",
        program.display(),
        gpu.name,
        gpu.uuid,
        gpu.compute_capability
    )]
    ComputeCapability {
        /// The worker program.
        program: PathBuf,
        /// The compute capability that it was built for.
        built: String,
        /// The requested device.
        device: Device,
        /// The GPU.
        gpu: Box<Gpu>,
    },
    /// The worker was built with a version of CUDA that the driver does not support.
    #[error(
        "the worker {} was built with CUDA {built}, and the driver {} of this host supports CUDA \
         up to {}",
        program.display(),
        gpu.driver,
        gpu.cuda
    )]
    CudaVersion {
        /// The worker program.
        program: PathBuf,
        /// The CUDA version that the worker was built with.
        built: String,
        /// The GPU that the worker would use.
        gpu: Box<Gpu>,
    },
    /// The driver does not report the memory of the GPU.
    #[error("the driver does not report the memory in use on {device} ({uuid}): {reason}")]
    MemoryUnknown {
        /// The device.
        device: Device,
        /// The UUID of the GPU.
        uuid: String,
        /// The error of NVML.
        reason: String,
    },
    /// The lock file of a GPU cannot be opened or locked.
    #[error("{}: the GPU {device} cannot be locked: {source}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The device.
        device: Device,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A signal arrived during the wait for another run.
    #[error("{} ended the wait for the GPU {device}", signal::name(*signal))]
    Interrupted {
        /// The device.
        device: Device,
        /// The number of the signal.
        signal: i32,
    },
    /// Another run held the GPU for longer than this run waited.
    #[error(
        "the GPU {device} ({}, {}) is held by {holder}; {model} waited for {}",
        gpu.name,
        gpu.uuid,
        format_duration(*waited)
    )]
    Busy {
        /// The id of the model.
        model: String,
        /// The device.
        device: Device,
        /// The GPU.
        gpu: Box<Gpu>,
        /// A description of the holder.
        holder: String,
        /// The duration for which this run waited.
        waited: Duration,
    },
}

/// The reason why a device does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MissingGpu {
    /// The host has no GPU. The text is the reason.
    #[error("{0}")]
    NoGpu(String),
    /// `CUDA_VISIBLE_DEVICES` hides the device.
    #[error("{CUDA_VISIBLE_DEVICES}={variable:?} shows {}: {cut}", counted(*shown, "device"))]
    Hidden {
        /// The value of the variable.
        variable: String,
        /// The number of devices that it shows.
        shown: usize,
        /// The reason why it shows no more devices.
        cut: String,
    },
    /// The host has fewer GPUs than the number of the device requires. The value is their number.
    #[error("the host has {}", counted(*_0, "GPU"))]
    TooFew(usize),
    /// The process has access to fewer GPUs than the number of the device requires.
    #[error("the process has access to {}; {errors}", counted(*accessible, "GPU"))]
    NoAccess {
        /// The number of GPUs to which the process has access.
        accessible: usize,
        /// The other GPUs, with the errors of NVML.
        errors: String,
    },
}

impl MissingGpu {
    fn hint(&self) -> String {
        match self {
            MissingGpu::NoGpu(reason) if reason.starts_with(VERSION_MISMATCH) => {
                "restart the host, or reload the kernel modules of the driver: after an update of \
                 the driver, the old module remains loaded"
                    .to_owned()
            }
            MissingGpu::NoGpu(_) => {
                "run on a host with an NVIDIA GPU and its driver (`nvidia-smi` shows both; give a \
                 container access to the GPU); or change `device` in the manifest"
                    .to_owned()
            }
            MissingGpu::Hidden { .. } => {
                format!("unset {CUDA_VISIBLE_DEVICES}; or add the GPU to it")
            }
            MissingGpu::TooFew(_) => {
                "change `device` in the manifest; the first GPU is cuda:0".to_owned()
            }
            MissingGpu::NoAccess { .. } => {
                "request the GPU from the job scheduler, or give the container access to it; or \
                 change `device` in the manifest"
                    .to_owned()
            }
        }
    }
}

impl Reportable for GpuError {
    fn kind(&self) -> FailureKind {
        match self {
            GpuError::Missing { .. }
            | GpuError::Unreadable { .. }
            | GpuError::MigMode { .. }
            | GpuError::MigSlice { .. }
            | GpuError::MemoryUnknown { .. } => FailureKind::DeviceNotFound,
            GpuError::WithoutCuda { .. }
            | GpuError::ComputeCapability { .. }
            | GpuError::CudaVersion { .. } => FailureKind::DeviceMismatch,
            GpuError::Lock { .. } => FailureKind::Io,
            GpuError::Interrupted { .. } => FailureKind::Interrupted,
            GpuError::Busy { .. } => FailureKind::DeviceBusy,
        }
    }

    fn hint(&self) -> String {
        let hint = match self {
            GpuError::Missing { reason, .. } => return reason.hint(),
            GpuError::Unreadable { gpu, .. } if gpu.mig => {
                return format!(
                    "end MIG mode with `nvidia-smi -i {} -mig 0`; or change `device` in the \
                     manifest",
                    gpu.index
                );
            }
            GpuError::Unreadable { gpu, .. } => {
                return format!(
                    "read the state of the GPU with `nvidia-smi -q -i {}` and its errors (Xid) in \
                     the log of the system; or change `device` in the manifest",
                    gpu.index
                );
            }
            GpuError::ComputeCapability { gpu, .. } => {
                return format!(
                    "build the worker on this host; or build it with {CUDA_COMPUTE_CAP}={}",
                    capability_digits(&gpu.compute_capability)
                );
            }
            GpuError::CudaVersion { gpu, .. } => {
                return format!(
                    "install a newer driver; or build the worker with CUDA {} or older",
                    gpu.cuda
                );
            }
            GpuError::MigMode { .. } => {
                "set CUDA_VISIBLE_DEVICES to a GPU that is not in MIG mode; or end MIG mode with \
                 `nvidia-smi -mig 0`"
            }
            GpuError::MigSlice { .. } => {
                "set CUDA_VISIBLE_DEVICES to a complete GPU, by its index or its UUID \
                 (`nvidia-smi -L`)"
            }
            GpuError::WithoutCuda { .. } => {
                "build the worker with `cargo build --release --features cuda`; or set \
                 MODELGATE_WORKER to a worker with CUDA"
            }
            GpuError::MemoryUnknown { .. } => {
                "check that `nvidia-smi` shows the memory in use on the GPU"
            }
            GpuError::Lock { .. } => {
                "remove the file if it is not a regular file that every user can write"
            }
            GpuError::Interrupted { .. } => "start the run again",
            GpuError::Busy { .. } => {
                "wait for the other run or end it; or choose another GPU with `device` or \
                 CUDA_VISIBLE_DEVICES; or wait longer with `stall` in the manifest"
            }
        };
        hint.to_owned()
    }
}

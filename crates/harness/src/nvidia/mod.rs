//! NVIDIA GPUs as the harness sees them: inventory, assignment to models, locks, and memory in use.
//! All readings come from NVML, which is opened at run time: a host without a driver has no GPUs,
//! and nothing else changes.
//!
//! This module uses the types of the protocol and the memory of the host, and does not depend on
//! CUDA, engines or models.

mod account;
mod assign;
mod device_lock;
mod error;
mod inventory;
mod nvml;
mod probe;
mod readings;
mod survey;
mod unreadable;

pub(crate) use account::{MemoryMark, WorkerReadings, device_memory};
pub use assign::{Assigned, assign};
pub(crate) use assign::{check_worker, shown, usable};
pub(crate) use device_lock::{FOLDER, lock_gpus};
pub use error::{GpuError, MissingGpu};
pub(crate) use inventory::capability_digits;
pub use inventory::{Gpu, HostGpus, Slot, VisibleDevices, visible};
pub use nvml::NvmlReadings;
pub(crate) use nvml::inventory;
pub(crate) use probe::{GpuSampler, GpuSamples, wait_for_release};
pub use readings::{MemoryReading, ProcessUse, Readings, Snapshot};
#[cfg(test)]
pub(crate) use survey::VERSION_MISMATCH;
pub use unreadable::UnreadableGpu;

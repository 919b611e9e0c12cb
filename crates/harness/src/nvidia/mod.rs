//! The harness's side of NVIDIA GPUs: which there are, which a model gets, who holds them, and what
//! is in use on them. Through NVML, which is opened at run time: a host without a driver has none,
//! and nothing else changes.
//!
//! Knows the types of the protocol; nothing of CUDA, engines and models.

mod account;
mod assign;
mod device_lock;
mod error;
mod inventory;
mod nvml;
mod probe;
mod readings;

pub(crate) use account::{Life, Mark, device_memory};
pub use assign::{Assigned, HostGpus, assign};
pub(crate) use assign::{shown, suits};
pub(crate) use device_lock::{FOLDER, hold};
pub use error::{GpuError, MissingGpu};
pub(crate) use inventory::capability_digits;
pub use inventory::{Gpu, Slot, Visible, visible};
pub use nvml::NvmlReadings;
pub(crate) use nvml::inventory;
pub(crate) use probe::{Log, Probe, unloaded};
pub use readings::{MemoryReading, ProcessUse, Readings, Snapshot};

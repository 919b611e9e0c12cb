//! The devices that a worker opened, and their memory as the worker sees it.

use crate::{Device, Finite};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A device that a worker opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceRecord {
    /// The device, as the request names it.
    pub device: Device,
    /// The UUID that the driver reports: `GPU-` and 32 hexadecimal digits in five groups.
    pub uuid: String,
    /// The product name.
    pub name: String,
    /// The compute capability, such as `9.0`.
    pub compute_capability: String,
    /// The total memory in bytes.
    pub total: u64,
    /// Bytes in use before the first weight, by all processes: other processes, and the context,
    /// kernels and workspaces of the worker.
    pub baseline: u64,
    /// Whether the driver had compiled the kernels before. `None` if it is unknown.
    pub kernels_cached: Option<bool>,
}

impl DeviceRecord {
    /// Returns the bytes that the worker uses before the first weight, if `before` bytes were in
    /// use when it started.
    pub fn own_baseline(&self, before: u64) -> u64 {
        self.baseline.saturating_sub(before)
    }
}

/// The memory of one device as the worker sees it. The values of its allocator are exact. Memory
/// outside of the allocator (contexts, kernels, libraries, other processes) is sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolMemory {
    /// The device, as the request names it.
    pub device: Device,
    /// The UUID of the device.
    pub uuid: String,
    /// Bytes that the allocator has reserved now.
    pub reserved: u64,
    /// The peak of bytes that the allocator reserved.
    pub reserved_peak: u64,
    /// Bytes in use outside of the allocator now, by all processes.
    pub outside: u64,
    /// The highest sample of bytes in use outside of the allocator.
    pub outside_peak: u64,
    /// The longest time between two samples, in seconds. A shorter use outside of the allocator may
    /// be missed.
    pub longest_gap_s: Finite,
}

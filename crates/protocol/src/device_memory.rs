//! Devices that a worker has opened, and their memory as the worker sees it.

use crate::{Device, Finite};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A device that a worker has opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceSeen {
    /// The device, by the name that the request gives it.
    pub device: Device,
    /// The device's UUID as the driver gives it: `GPU-` and 32 hexadecimal digits in five groups.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// Such as `9.0`.
    pub compute_capability: String,
    /// Its memory.
    pub total: u64,
    /// In use of it before the first weight, by all processes: what others have, and the worker's
    /// context, kernels and workspaces.
    pub baseline: u64,
    /// Whether the driver had compiled the kernels before; `None` if that cannot be told.
    pub kernels_cached: Option<bool>,
}

impl DeviceSeen {
    /// What the worker itself takes before the first weight, where `before` was in use when it
    /// started.
    pub fn own_baseline(&self, before: u64) -> u64 {
        self.baseline.saturating_sub(before)
    }
}

/// Memory of one device as a worker itself sees it. What its allocator reserves has exact marks;
/// what is taken outside of it (contexts, kernels, libraries, other processes) is sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolMemory {
    /// The device, by the name that the request gives it.
    pub device: Device,
    /// The device's UUID.
    pub uuid: String,
    /// Reserved by the allocator now.
    pub reserved: u64,
    /// The most that it ever reserved.
    pub reserved_peak: u64,
    /// In use outside the allocator now, by all processes.
    pub outside: u64,
    /// The most of that among all samples.
    pub outside_peak: u64,
    /// The longest time between two samples, in seconds: what is taken outside the allocator for
    /// less can have been missed.
    pub longest_gap_s: Finite,
}

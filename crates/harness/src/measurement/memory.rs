//! The memory of a model.

use crate::admission::Prediction;
use modelgate_protocol::{Device, Finite};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The tolerance in bytes between the memory of a device before the start and after the end of a
/// worker.
pub const UNLOAD_TOLERANCE: u64 = 64 << 20;

/// The memory of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// The memory of each device.
    pub devices: Vec<DeviceMemory>,
    /// The memory of the worker process on the host. `None` if no process was started.
    pub host: Option<HostMemory>,
    /// The prediction from the shapes before the load. `None` if the shapes are unknown.
    pub prediction: Option<Prediction>,
    /// The samples over time.
    pub timeline: Timeline,
}

/// The memory of a device during the life of a worker, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceMemory {
    /// The device, as the manifest names it.
    pub device: Device,
    /// The UUID of the device.
    pub uuid: String,
    /// Memory in use by all processes before the start of the worker.
    pub before: u64,
    /// Memory of the worker after the last tensor was resident; 0 if the load did not complete.
    pub after_load: u64,
    /// The peak of the worker during the load.
    pub peak_load: u64,
    /// The peak of the worker: the peak of its allocator and the peak outside of its allocator.
    pub peak: u64,
    /// The source of the peaks.
    pub peak_source: PeakSource,
    /// Memory in use after the end of the worker, without the growth of other processes since its
    /// start. `None` if it was not read.
    pub after_unload: Option<u64>,
    /// The prediction for `peak`. `None` if the shapes are unknown.
    pub predicted_peak: Option<u64>,
    /// The peak of other processes during the life of the worker, which is not part of the figures
    /// above.
    pub foreign_peak: u64,
    /// The processes whose memory grew after the start of the worker.
    #[serde(default, alias = "foreign")]
    pub foreign_processes: Vec<ForeignProcess>,
    /// Whether the driver reports the memory of the worker separately. If it does not, the memory
    /// of the worker is the growth of the memory in use.
    #[serde(default)]
    pub per_process: bool,
    /// Why the figures may contain memory of other processes. `None` if they do not.
    #[serde(default, alias = "mixed")]
    pub attribution_problem: Option<String>,
    /// Memory that is used outside of the allocator of the worker for a shorter time than this, in
    /// seconds, may be missed. `None` if the peak comes only from samples.
    #[serde(default, alias = "outside_gap_s")]
    pub outside_allocator_gap_s: Option<Finite>,
    /// The number of samples taken from outside the worker.
    #[serde(default)]
    pub samples: u64,
    /// The longest time between two samples, in seconds.
    #[serde(default)]
    pub longest_gap_s: Option<Finite>,
}

/// Another process that uses a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForeignProcess {
    /// The process id that the driver reports.
    pub pid: u32,
    /// The name. `None` if the operating system does not show it.
    pub name: Option<String>,
    /// The growth of its memory since the start of the worker, in bytes.
    pub bytes: u64,
}

/// The source of a peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeakSource {
    /// High-water marks from the allocator or the operating system. They are exact for the memory
    /// that each of them tracks; memory outside of the allocator is sampled.
    #[serde(alias = "pool")]
    HighWaterMark,
    /// Samples: a shorter spike can be missed.
    Samples,
}

/// The host memory of the worker process, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostMemory {
    /// The private memory in the first sample.
    pub before: u64,
    /// The private memory when the last tensor was resident. `None` if the load did not complete.
    pub after_load: Option<u64>,
    /// The peak of private memory: anonymous, shared and page-locked pages, without pages of mapped
    /// files.
    pub peak_private: u64,
    /// The source of `peak_private`.
    pub peak_source: PeakSource,
    /// The peak of the resident set (`VmHWM`), with mapped files.
    pub peak_rss: u64,
    /// The prediction for `peak_private`. `None` if the shapes are unknown.
    pub predicted_peak: Option<u64>,
    /// The peak of the control group of the worker, with its other processes and the page cache.
    /// `None` if the operating system does not record it.
    pub cgroup_peak: Option<u64>,
    /// The number of samples.
    pub samples: u64,
    /// The longest time between two samples, in seconds.
    pub longest_gap_s: Finite,
}

/// Memory over time: at most 2,000 points, which include the extremes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// Seconds from the spawn.
    pub t_s: Vec<Finite>,
    /// Bytes, one series for each name, each as long as `t_s`.
    pub series: BTreeMap<String, Vec<u64>>,
}

//! What a model took in memory.

use crate::admission::Prediction;
use modelgate_protocol::{Device, Finite};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Use of a device after a worker's end may differ by so many bytes from the use before its start.
pub const UNLOAD_TOLERANCE: u64 = 64 << 20;

/// What a model took in memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// One entry a device.
    pub devices: Vec<DeviceMemory>,
    /// Memory of the worker's process on the host; `None` if no process was started.
    pub host: Option<HostMemory>,
    /// Predicted from the shapes before anything was loaded; `None` if the shapes are not known.
    pub prediction: Option<Prediction>,
    /// Samples over time.
    pub timeline: Timeline,
}

/// Device memory over a worker's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceMemory {
    /// The device, by the name that the manifest gives it.
    pub device: Device,
    /// The device's UUID.
    pub uuid: String,
    /// In use before the worker started.
    pub before: u64,
    /// The worker's use after the last tensor was resident; 0 where that never happened.
    pub after_load: u64,
    /// The worker's highest use during the load.
    pub peak_load: u64,
    /// The worker's highest use: the most that its allocator reserved and the most that it took
    /// outside of it.
    pub peak: u64,
    /// How the peaks were had.
    pub peak_source: PeakSource,
    /// In use after the worker's end, less what other processes took since its start; `None` if
    /// it was not read.
    pub after_unload: Option<u64>,
    /// What was predicted for `peak`; `None` if the shapes are not known.
    pub predicted_peak: Option<u64>,
    /// The highest use of other processes while the worker lived, which is not in the figures
    /// above.
    pub foreign_peak: u64,
    /// Those processes that took more than they had when the worker started.
    #[serde(default)]
    pub foreign: Vec<ForeignProcess>,
    /// Whether the driver tells what the worker takes apart from others. Where it does not, the
    /// worker's use is what the device's use has grown by.
    #[serde(default)]
    pub per_process: bool,
    /// Why the figures may hold what other processes took; `None` if they do not.
    #[serde(default)]
    pub mixed: Option<String>,
    /// Memory that is taken outside the worker's allocator for less than this, in seconds, can have
    /// been missed; `None` if the peak is of samples alone.
    #[serde(default)]
    pub outside_gap_s: Option<Finite>,
    /// Samples that were taken from outside the worker.
    #[serde(default)]
    pub samples: u64,
    /// The longest time between two of them, in seconds.
    #[serde(default)]
    pub longest_gap_s: Option<Finite>,
}

/// Another process on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForeignProcess {
    /// Its process id, as the driver gives it.
    pub pid: u32,
    /// Its name; `None` if the system does not tell it.
    pub name: Option<String>,
    /// What it took beyond what it had when the worker started.
    pub bytes: u64,
}

/// How a peak was had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeakSource {
    /// From high-water marks that the allocator or the system keeps: exact for what goes through
    /// it. What a worker takes of a device outside its allocator is sampled all the same.
    Pool,
    /// From samples: a shorter spike can be missed.
    Samples,
}

/// Host memory of the worker's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostMemory {
    /// Private memory at the first sample.
    pub before: u64,
    /// Private memory when the last tensor was resident; `None` if that never happened.
    pub after_load: Option<u64>,
    /// The highest private memory: anonymous, shared and page-locked pages, without those of
    /// mapped files.
    pub peak_private: u64,
    /// How `peak_private` was had.
    pub peak_source: PeakSource,
    /// The highest resident set that the system saw (`VmHWM`), mapped files included.
    pub peak_rss: u64,
    /// What was predicted for `peak_private`; `None` if the shapes are not known.
    pub predicted_peak: Option<u64>,
    /// The highest use of the control group that the worker runs in, its other processes and page
    /// cache included; `None` if the system keeps no such mark.
    pub cgroup_peak: Option<u64>,
    /// Samples that were taken.
    pub samples: u64,
    /// The longest time between two of them, in seconds.
    pub longest_gap_s: Finite,
}

/// Memory over time, at most 2,000 points, extremes kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// Seconds from spawn.
    pub t_s: Vec<Finite>,
    /// Bytes, one series a name, each as long as `t_s`.
    pub series: BTreeMap<String, Vec<u64>>,
}

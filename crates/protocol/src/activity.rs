//! Activities that use a part of the machine, and the limits of the hardware for them.

use crate::{Finite, Location};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of an activity. Workers of other engines may add names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActivityName {
    /// Reading weight files.
    Read,
    /// The copies of weights to a device.
    Copy,
    /// The quantization of weights.
    Quantize,
    /// The verification of weight files against their hashes.
    Verify,
    /// The evaluation of prompts.
    Prefill,
    /// The generation of tokens.
    Decode,
    /// An activity of another engine, with its name.
    #[serde(untagged)]
    Other(String),
}

impl ActivityName {
    /// Returns the name in reports.
    pub fn name(&self) -> &str {
        match self {
            ActivityName::Read => "read",
            ActivityName::Copy => "copy",
            ActivityName::Quantize => "quantize",
            ActivityName::Verify => "verify",
            ActivityName::Prefill => "prefill",
            ActivityName::Decode => "decode",
            ActivityName::Other(name) => name,
        }
    }
}

impl std::fmt::Display for ActivityName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// The name of a limit of the hardware. Workers of other engines may add names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CeilingName {
    /// Reading files that are in the page cache.
    PageCacheRead,
    /// Reading files that are not in the page cache.
    DiskRead,
    /// Copying from page-locked host memory to a device.
    PinnedCopy,
    /// Reading and writing the memory of a device.
    DeviceMemory,
    /// A limit that another engine measures, with its name.
    #[serde(untagged)]
    Other(String),
}

impl CeilingName {
    /// Returns the name in reports.
    pub fn name(&self) -> &str {
        match self {
            CeilingName::PageCacheRead => "page_cache_read",
            CeilingName::DiskRead => "disk_read",
            CeilingName::PinnedCopy => "pinned_copy",
            CeilingName::DeviceMemory => "device_memory",
            CeilingName::Other(name) => name,
        }
    }
}

/// An activity that used a part of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Activity {
    /// The name of the activity.
    pub name: ActivityName,
    /// The bytes that it moved or processed.
    pub bytes: u64,
    /// Seconds of wall-clock time in which at least one thread was busy with it.
    pub busy_s: Finite,
    /// The limit of the hardware, measured in the same run. `None` if it was not measured.
    #[serde(default)]
    pub ceiling_bytes_per_s: Option<Finite>,
}

impl Activity {
    /// Returns the rate while the activity was busy. `None` if it was never busy.
    pub fn bytes_per_s(&self) -> Option<Finite> {
        Finite::new(self.bytes as f64 / self.busy_s.get())
    }

    /// Returns the rate as a fraction of the ceiling. `None` without a ceiling.
    pub fn ceiling_fraction(&self) -> Option<Finite> {
        Finite::new(self.bytes_per_s()?.get() / self.ceiling_bytes_per_s?.get())
    }
}

/// A limit of the hardware.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ceiling {
    /// The name of the limit.
    pub name: CeilingName,
    /// The place of the measurement.
    pub device: Location,
    /// Bytes per second.
    pub bytes_per_s: Finite,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_equal_displayed_names() {
        for name in [ActivityName::Read, ActivityName::Decode, ActivityName::Other("own".into())] {
            let json = serde_json::to_string(&name).expect("serializes");
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<ActivityName>(&json).ok(), Some(name));
        }
        for name in [
            CeilingName::PageCacheRead,
            CeilingName::DiskRead,
            CeilingName::PinnedCopy,
            CeilingName::DeviceMemory,
            CeilingName::Other("own".into()),
        ] {
            let json = serde_json::to_string(&name).expect("serializes");
            assert_eq!(json, format!("\"{}\"", name.name()));
            assert_eq!(serde_json::from_str::<CeilingName>(&json).ok(), Some(name));
        }
    }
}

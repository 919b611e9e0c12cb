//! What kept a part of the machine busy, and how fast it could have been.

use crate::{Finite, Location};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An activity by name. Workers of other engines may add their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActivityName {
    /// Reading weight files.
    Read,
    /// Copying weights to a device.
    Copy,
    /// Quantizing weights.
    Quantize,
    /// Comparing weights with their hashes.
    Verify,
    /// Evaluating prompts.
    Prefill,
    /// Generating tokens.
    Decode,
    /// An activity of another engine, by its own name.
    #[serde(untagged)]
    Other(String),
}

impl ActivityName {
    /// Returns the name as reports write it.
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

/// A limit of the hardware by name. Workers of other engines may add their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CeilingName {
    /// Reading files that are in the page cache.
    PageCacheRead,
    /// Reading files past the page cache.
    DiskRead,
    /// Copying from page-locked host memory to a device.
    PinnedCopy,
    /// Reading and writing a device's own memory.
    DeviceMemory,
    /// A limit that another engine measures, by its own name.
    #[serde(untagged)]
    Other(String),
}

impl CeilingName {
    /// Returns the name as reports write it.
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

/// Something that kept a part of the machine busy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Activity {
    /// Which activity.
    pub name: ActivityName,
    /// Bytes that it moved or worked on.
    pub bytes: u64,
    /// Wall-clock seconds in which at least one thread was busy with it.
    pub busy_s: Finite,
    /// The most that the hardware could do, measured in the same run; `None` if it was not
    /// measured.
    #[serde(default)]
    pub ceiling_bytes_per_s: Option<Finite>,
}

impl Activity {
    /// Bytes per second while it was busy; `None` if that was no time at all.
    pub fn bytes_per_s(&self) -> Option<Finite> {
        Finite::new(self.bytes as f64 / self.busy_s.get())
    }

    /// What it reached of the ceiling, as a ratio; `None` if there is none.
    pub fn ceiling_fraction(&self) -> Option<Finite> {
        Finite::new(self.bytes_per_s()?.get() / self.ceiling_bytes_per_s?.get())
    }
}

/// What the hardware can do at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ceiling {
    /// What was measured.
    pub name: CeilingName,
    /// Where it was measured.
    pub device: Location,
    /// Bytes per second.
    pub bytes_per_s: Finite,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_wire_are_the_names_shown() {
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

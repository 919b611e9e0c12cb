//! Counters of the control group (cgroup) of this process: out-of-memory kills and the peak of the
//! memory. Reads cgroup version 2, or version 1 if that is mounted.
//!
//! Source: `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst` of the kernel.

use crate::host_memory::{MemoryGroups, memory_groups};
use std::path::{Path, PathBuf};

/// The number of out-of-memory kills at one time. `None` if the control group does not count them.
pub(super) struct OutOfMemoryKills(Option<u64>);

/// The out-of-memory kills since an earlier count.
pub(super) enum KillsSince {
    /// At least one kill.
    Some,
    /// No kill.
    None,
    /// The control group does not count them.
    Unknown,
}

impl OutOfMemoryKills {
    /// Reads the current number.
    pub(super) fn now() -> OutOfMemoryKills {
        OutOfMemoryKills(count())
    }

    /// Compares the current number with this earlier one.
    pub(super) fn since(&self) -> KillsSince {
        match (self.0, count()) {
            (Some(before), Some(now)) if now > before => KillsSince::Some,
            (Some(_), Some(_)) => KillsSince::None,
            _ => KillsSince::Unknown,
        }
    }
}

/// Returns the peak memory of the control group of this process in bytes, with all of its processes
/// and their page cache. `None` if the kernel does not record it.
pub(super) fn peak() -> Option<u64> {
    ["memory.peak", "memory.max_usage_in_bytes"]
        .iter()
        .find_map(|name| std::fs::read_to_string(folder()?.join(name)).ok())
        .and_then(|text| text.trim().parse().ok())
}

/// Returns the number of out-of-memory kills. `None` if the control group does not count them.
fn count() -> Option<u64> {
    let text = ["memory.events", "memory.oom_control"]
        .iter()
        .find_map(|name| std::fs::read_to_string(folder()?.join(name)).ok())?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// Returns the folder of the memory controller for this process. `None` if no control group is
/// mounted.
fn folder() -> Option<PathBuf> {
    let counts = |folder: &&PathBuf| {
        folder.join("memory.events").is_file() || folder.join("memory.oom_control").is_file()
    };
    let groups = memory_groups(Path::new("/"));
    groups.iter().flat_map(MemoryGroups::folders).find(counts).cloned()
}

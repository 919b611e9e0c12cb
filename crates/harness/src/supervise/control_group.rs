//! What the control group (cgroup) of this process counts and limits: out-of-memory kills and the
//! memory's peak. Version 2, and version 1 where that is what is mounted.
//!
//! Source: the kernel's `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`.

use std::path::{Path, PathBuf};

/// The count of out-of-memory kills at one moment; `None` if nothing counts them.
pub(super) struct OutOfMemoryKills(Option<u64>);

/// Out-of-memory kills since then.
pub(super) enum Kills {
    /// At least one.
    Some,
    /// Not one.
    None,
    /// Nothing counts them.
    Unknown,
}

impl OutOfMemoryKills {
    pub(super) fn now() -> OutOfMemoryKills {
        OutOfMemoryKills(count())
    }

    pub(super) fn since(&self) -> Kills {
        match (self.0, count()) {
            (Some(before), Some(now)) if now > before => Kills::Some,
            (Some(_), Some(_)) => Kills::None,
            _ => Kills::Unknown,
        }
    }
}

/// The highest memory use of this process's control group in bytes, all its processes and their
/// page cache included; `None` if the system keeps no such mark.
pub(super) fn peak() -> Option<u64> {
    ["memory.peak", "memory.max_usage_in_bytes"]
        .iter()
        .find_map(|name| std::fs::read_to_string(folder()?.join(name)).ok())
        .and_then(|text| text.trim().parse().ok())
}

fn count() -> Option<u64> {
    let text = ["memory.events", "memory.oom_control"]
        .iter()
        .find_map(|name| std::fs::read_to_string(folder()?.join(name)).ok())?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// The memory controller's folder of this process.
fn folder() -> Option<PathBuf> {
    let membership = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path =
        |line: &str| line.splitn(3, ':').nth(2).map(|path| path.trim_start_matches('/').to_owned());
    let unified = membership.lines().find(|line| line.starts_with("0::")).and_then(path);
    let memory = membership
        .lines()
        .find(|line| {
            line.split(':').nth(1).is_some_and(|names| names.split(',').any(|n| n == "memory"))
        })
        .and_then(path);
    let root = Path::new("/sys/fs/cgroup");
    // inside a container the path may be the host's, and the mount its own root
    let candidates = [
        memory.map(|path| root.join("memory").join(path)),
        Some(root.join("memory")),
        unified.map(|path| root.join(path)),
        Some(root.to_owned()),
    ];
    candidates.into_iter().flatten().find(|folder| {
        folder.join("memory.events").is_file() || folder.join("memory.oom_control").is_file()
    })
}

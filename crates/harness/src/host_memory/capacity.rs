//! The memory that a process on this host can use.

use super::control_groups::memory_limit;
use super::online_memory::online_bytes;
use std::path::Path;

/// The memory of the host that this process can use, in bytes; 0 if unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostCapacity {
    /// The current memory of the host, or the lowest limit of the control groups.
    pub(crate) now: u64,
    /// The memory to which the host can grow, or the lowest limit of the control groups.
    pub(crate) max: u64,
}

impl HostCapacity {
    /// Returns the capacity of a host whose current memory is `total` bytes (0 if unknown).
    pub(crate) fn read(root: &Path, total: u64) -> HostCapacity {
        let physical = total.max(online_bytes(root).unwrap_or(0));
        let limit = memory_limit(root, physical).unwrap_or(u64::MAX);
        HostCapacity { now: total.min(limit), max: physical.min(limit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// Creates a host with 16 online blocks of 1 GiB, and with this limit of its control group.
    fn host(limit: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            std::fs::write(path, text).expect("written");
        };
        write("sys/devices/system/memory/block_size_bytes", "40000000\n");
        for block in 0..16 {
            write(&format!("sys/devices/system/memory/memory{block}/state"), "online\n");
        }
        write("proc/self/cgroup", "0::/job\n");
        write(
            "proc/self/mountinfo",
            "31 23 0:27 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n",
        );
        write("sys/fs/cgroup/job/memory.max", limit);
        root
    }

    #[test]
    fn a_balloon_lowers_the_current_memory_and_a_limit_lowers_both() {
        for (limit, total, now, max) in [
            // the balloon has 12 GiB
            ("max\n", 4 * GIB, 4 * GIB, 16 * GIB),
            ("max\n", 15 * GIB, 15 * GIB, 16 * GIB),
            // memory that is not in blocks
            ("max\n", 20 * GIB, 20 * GIB, 20 * GIB),
            ("8589934592\n", 4 * GIB, 4 * GIB, 8 * GIB),
            ("2147483648\n", 4 * GIB, 2 * GIB, 2 * GIB),
            ("1099511627776\n", 4 * GIB, 4 * GIB, 16 * GIB),
        ] {
            let capacity = HostCapacity::read(host(limit).path(), total);
            assert_eq!(capacity, HostCapacity { now, max }, "{limit} {total}");
        }
        let root = tempfile::tempdir().expect("a folder");
        let unknown = HostCapacity { now: 0, max: 0 };
        assert_eq!(HostCapacity::read(root.path(), 0), unknown);
        let plain = HostCapacity { now: GIB, max: GIB };
        assert_eq!(HostCapacity::read(root.path(), GIB), plain);
    }
}

//! The memory of the complete host, from `/proc/meminfo`.

use std::path::Path;

/// The memory of the complete host in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SystemMemory {
    /// The memory that the kernel manages (`MemTotal`).
    pub(crate) total: u64,
    /// The memory that a new process can use without swapping (`MemAvailable`).
    available: u64,
}

impl SystemMemory {
    /// Reads the memory now. `None` if the kernel does not report it.
    pub(crate) fn read(root: &Path) -> Option<SystemMemory> {
        let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
        Some(SystemMemory {
            total: field(&text, "MemTotal")?,
            available: field(&text, "MemAvailable")?,
        })
    }

    /// Returns the bytes that are in use.
    pub(crate) fn used(self) -> u64 {
        self.total.saturating_sub(self.available)
    }
}

/// Returns the value of the line `name` in bytes, for example of `MemTotal:  131981020 kB`.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_memory_is_the_memory_that_is_not_available() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(SystemMemory::read(root.path()), None);
        std::fs::create_dir(root.path().join("proc")).expect("created");
        let text = "MemTotal:       125513908 kB\nMemFree:         3341892 kB\n\
                    MemAvailable:   98765432 kB\nBuffers:          567060 kB\n";
        std::fs::write(root.path().join("proc/meminfo"), text).expect("written");
        let memory = SystemMemory::read(root.path()).expect("the memory");
        assert_eq!(memory.total, 125_513_908 * 1024);
        assert_eq!(memory.used(), (125_513_908 - 98_765_432) * 1024);
    }
}

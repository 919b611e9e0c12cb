//! The size of all memory blocks that are online. It includes memory that a balloon driver has
//! returned to the hypervisor and that `MemTotal` therefore does not contain.
//!
//! Source: `Documentation/admin-guide/mm/memory-hotplug.rst` of the kernel.

use std::path::Path;

/// Returns the bytes of all online memory blocks. `None` if the kernel does not report blocks.
pub(super) fn online_bytes(root: &Path) -> Option<u64> {
    let folder = root.join("sys/devices/system/memory");
    let size = std::fs::read_to_string(folder.join("block_size_bytes")).ok()?;
    let size = u64::from_str_radix(size.trim(), 16).ok()?;
    let is_block = |name: &str| {
        name.strip_prefix("memory")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let blocks = std::fs::read_dir(&folder).ok()?.flatten();
    let online = blocks
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(is_block) && is_online(&entry.path())
        })
        .count();
    (online as u64).checked_mul(size).filter(|bytes| *bytes > 0)
}

/// Returns whether a block is online. The file `online` does not exist for blocks that the kernel
/// cannot take offline.
fn is_online(block: &Path) -> bool {
    let read = |name: &str| std::fs::read_to_string(block.join(name));
    match read("online") {
        Ok(online) => online.trim() == "1",
        Err(_) => read("state").is_ok_and(|state| state.trim() == "online"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_online_blocks_count() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(online_bytes(root.path()), None);
        let folder = root.path().join("sys/devices/system/memory");
        let write = |path: &str, text: &str| {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            std::fs::write(path, text).expect("written");
        };
        // 128 MiB in hexadecimal
        write("block_size_bytes", "8000000\n");
        assert_eq!(online_bytes(root.path()), None, "no blocks");
        write("memory0/state", "online\n");
        write("memory1/online", "1\n");
        write("memory1/state", "online\n");
        write("memory2/online", "0\n");
        write("memory2/state", "offline\n");
        write("memory3/state", "going-offline\n");
        write("memory32/online", "1\n");
        write("auto_online_blocks", "online\n");
        write("power/online", "1\n");
        write("memory_failure/online", "1\n");
        assert_eq!(online_bytes(root.path()), Some(3 * (128 << 20)));
        write("block_size_bytes", "unknown");
        assert_eq!(online_bytes(root.path()), None);
    }
}

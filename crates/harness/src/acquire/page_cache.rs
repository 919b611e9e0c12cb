//! The fraction of a file that is in the page cache, without reading the file.

use rustix::io::{Errno, ReadWriteFlags};
use std::fs::File;
use std::io::IoSliceMut;
use std::path::Path;

/// The number of positions in a file that are probed.
const PROBES: u64 = 64;
/// The size in bytes of a memory page, the smallest part of a file that is cached separately.
const PAGE: u64 = 4096;

/// Returns the fraction (0 to 1) of probed positions of the file at `path` that are in the page
/// cache. `None` if the operating system does not support it, or the file is empty. A read with
/// `RWF_NOWAIT` fails if it would have to wait for the disk.
pub(super) fn fraction(path: &Path) -> Option<f64> {
    let file = File::open(path).ok()?;
    let bytes = file.metadata().ok()?.len();
    let step = (bytes / PROBES).max(PAGE);
    let mut buffer = [0; 1];
    let (mut hits, mut probed) = (0u32, 0u32);
    for offset in (0..bytes).step_by(usize::try_from(step).ok()?) {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        match rustix::io::preadv2(&file, &mut slices, offset, ReadWriteFlags::NOWAIT) {
            Ok(_) => hits += 1,
            Err(Errno::AGAIN) => {}
            Err(_) => return None,
        }
        probed += 1;
    }
    (probed > 0).then(|| f64::from(hits) / f64::from(probed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_in_the_page_cache() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weights");
        std::fs::write(&path, vec![1u8; 8 << 20]).expect("written");
        let fraction = fraction(&path);
        assert!(fraction.is_none_or(|fraction| fraction > 0.9), "{fraction:?}");
        std::fs::write(&path, "").expect("written");
        assert_eq!(super::fraction(&path), None);
    }
}

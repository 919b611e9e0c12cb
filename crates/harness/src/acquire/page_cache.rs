//! How much of a file is in the page cache, without reading it.

use rustix::io::{Errno, ReadWriteFlags};
use std::fs::File;
use std::io::IoSliceMut;
use std::path::Path;

/// Places of a file that are looked at.
const PROBES: u64 = 64;
/// The smallest part of a file that is cached by itself.
const PAGE: u64 = 4096;

/// The part, 0 to 1, of a few places of the file at `path` that are in the page cache; `None` if
/// the system does not tell, or the file is empty. A read that must not wait fails where it would
/// have to go to the disk.
pub(super) fn fraction(path: &Path) -> Option<f64> {
    let file = File::open(path).ok()?;
    let bytes = file.metadata().ok()?.len();
    let step = (bytes / PROBES).max(PAGE);
    let mut buffer = [0; 1];
    let (mut hits, mut all) = (0u32, 0u32);
    for at in (0..bytes).step_by(usize::try_from(step).ok()?) {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        match rustix::io::preadv2(&file, &mut slices, at, ReadWriteFlags::NOWAIT) {
            Ok(_) => hits += 1,
            Err(Errno::AGAIN) => {}
            Err(_) => return None,
        }
        all += 1;
    }
    (all > 0).then(|| f64::from(hits) / f64::from(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_just_written_is_cached() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weights");
        std::fs::write(&path, vec![1u8; 8 << 20]).expect("written");
        let fraction = fraction(&path);
        assert!(fraction.is_none_or(|fraction| fraction > 0.9), "{fraction:?}");
        std::fs::write(&path, "").expect("written");
        assert_eq!(super::fraction(&path), None);
    }
}

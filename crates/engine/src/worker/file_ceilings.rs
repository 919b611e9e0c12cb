//! Measures how fast the weight files could be read at most: from the page cache, and from the disk.
//! After the load, on the same files.

use modelgate_protocol::{Ceiling, CeilingName, Finite, Location, ModelFiles};
use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

/// Bytes that are read at once.
const READ_BYTES: usize = 4 << 20;
/// The most bytes that are read in all.
const MAX_CACHED_BYTES: u64 = 4 << 30;
const MAX_DIRECT_BYTES: u64 = 1 << 30;
/// Fewer bytes than this are not enough to measure a disk.
const MIN_DIRECT_BYTES: u64 = 256 << 20;
/// The alignment of reads past the page cache.
const SECTOR: usize = 4096;

/// The weight files whose rates are measured.
pub(super) struct FileRates {
    paths: Vec<PathBuf>,
    /// The part of their bytes that was in the page cache before they were read; `None` if the system
    /// does not report it.
    cached: Option<f64>,
}

impl FileRates {
    /// Returns the weights of `files`.
    pub(super) fn of(files: &ModelFiles) -> FileRates {
        let cached = files.page_cache_fraction.map(Finite::get);
        FileRates { paths: files.weights.clone(), cached }
    }

    /// Measures the ceilings; returns none without files.
    pub(super) fn ceilings(&self) -> Vec<Ceiling> {
        let ceiling = |name, rate: Option<f64>| {
            let bytes_per_s = Finite::new(rate?)?;
            Some(Ceiling { name, device: Location::Host, bytes_per_s })
        };
        // the disk first: it would fill the page cache otherwise
        let measured = [
            ceiling(CeilingName::DiskRead, self.rate(MAX_DIRECT_BYTES, true)),
            ceiling(CeilingName::PageCacheRead, self.rate(MAX_CACHED_BYTES, false)),
        ];
        measured.into_iter().flatten().collect()
    }

    /// Returns the most bytes per second that reading them could have reached, with the part that was
    /// in the page cache.
    pub(super) fn read_ceiling(&self, ceilings: &[Ceiling]) -> Option<f64> {
        let rate = |name| {
            ceilings.iter().find(|c| c.name == name).map(|ceiling| ceiling.bytes_per_s.get())
        };
        let cached = self.cached?;
        let seconds_cached =
            if cached > 0.0 { cached / rate(CeilingName::PageCacheRead)? } else { 0.0 };
        let seconds_disk =
            if cached < 1.0 { (1.0 - cached) / rate(CeilingName::DiskRead)? } else { 0.0 };
        Some(1.0 / (seconds_cached + seconds_disk))
    }

    /// Returns the bytes per second of reading up to `max` bytes with all threads, past the page cache if
    /// `direct`.
    fn rate(&self, max: u64, direct: bool) -> Option<f64> {
        let flags = if direct { OFlags::DIRECT } else { OFlags::empty() };
        let mut parts = Vec::new();
        let mut total = 0;
        for path in &self.paths {
            let descriptor = rustix::fs::open(path, OFlags::RDONLY | flags, Mode::empty()).ok()?;
            let file = std::sync::Arc::new(File::from(descriptor));
            let bytes = file.metadata().ok()?.len().min(max - total);
            let whole = bytes - bytes % SECTOR as u64;
            let ends = (0..whole).step_by(READ_BYTES);
            parts
                .extend(ends.map(|from| (file.clone(), from, whole.min(from + READ_BYTES as u64))));
            total += whole;
        }
        if total == 0 || (direct && total < MIN_DIRECT_BYTES) {
            return None;
        }
        let begin = Instant::now();
        let read = parts.par_iter().try_for_each_init(
            || vec![0u8; READ_BYTES + SECTOR],
            |buffer, (file, from, to)| {
                let start = buffer.as_ptr().align_offset(SECTOR);
                let length = (to - from) as usize;
                file.read_exact_at(&mut buffer[start..start + length], *from).ok()
            },
        );
        read.map(|()| total as f64 / begin.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_just_written_can_be_read_fast() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weights");
        std::fs::write(&path, vec![1u8; 8 << 20]).expect("written");
        let files = FileRates { paths: vec![path], cached: Some(1.0) };
        let ceilings = files.ceilings();
        assert_eq!(ceilings.len(), 1, "{ceilings:?}");
        assert!(ceilings[0].bytes_per_s.get() > 1e8, "{ceilings:?}");
        assert!(files.read_ceiling(&ceilings).is_some_and(|rate| rate > 1e8));
    }

    #[test]
    fn cold_parts_count_by_the_disk() {
        let ceiling = |name, rate| Ceiling {
            name,
            device: Location::Host,
            bytes_per_s: Finite::new(rate).expect("finite"),
        };
        let ceilings =
            [ceiling(CeilingName::PageCacheRead, 10.0), ceiling(CeilingName::DiskRead, 1.0)];
        let files = |cached| FileRates { paths: Vec::new(), cached };
        assert_eq!(files(Some(1.0)).read_ceiling(&ceilings), Some(10.0));
        assert_eq!(files(Some(0.0)).read_ceiling(&ceilings), Some(1.0));
        assert_eq!(files(Some(0.5)).read_ceiling(&ceilings), Some(1.0 / 0.55));
        assert_eq!(files(Some(0.5)).read_ceiling(&ceilings[..1]), None);
        assert_eq!(files(None).read_ceiling(&ceilings), None);
    }
}

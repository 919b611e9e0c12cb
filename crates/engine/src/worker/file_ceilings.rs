//! Measures the maximum rates at which the weight files can be read from the page cache and from
//! the disk. The measurement uses the same files, after the load.

use modelgate_protocol::{Ceiling, CeilingName, Finite, Location, ModelFiles};
use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

/// The number of bytes that one read requests.
const READ_BYTES: usize = 4 << 20;
/// The maximum number of bytes to read from the page cache.
const MAX_CACHED_BYTES: u64 = 4 << 30;
/// The maximum number of bytes to read from the disk.
const MAX_DIRECT_BYTES: u64 = 1 << 30;
/// The minimum number of bytes for a measurement of the disk.
const MIN_DIRECT_BYTES: u64 = 256 << 20;
/// The alignment of reads that bypass the page cache, in bytes.
const SECTOR: usize = 4096;

/// The weight files whose rates are measured.
pub(super) struct FileRates {
    paths: Vec<PathBuf>,
    /// The fraction of the bytes that were in the page cache before the load, from 0 to 1. `None`
    /// if the system does not report it.
    cached: Option<f64>,
}

impl FileRates {
    /// Selects the weight files of `files`.
    pub(super) fn of(files: &ModelFiles) -> FileRates {
        let cached = files.page_cache_fraction.map(Finite::get);
        FileRates { paths: files.weights.clone(), cached }
    }

    /// Measures the ceilings. Omits a ceiling that cannot be measured.
    pub(super) fn ceilings(&self) -> Vec<Ceiling> {
        let ceiling = |name, rate: Option<f64>| {
            let bytes_per_s = Finite::new(rate?)?;
            Some(Ceiling { name, device: Location::Host, bytes_per_s })
        };
        // first the disk: in the other order, the files may already be in the page cache
        let measured = [
            ceiling(CeilingName::DiskRead, self.rate(MAX_DIRECT_BYTES, true)),
            ceiling(CeilingName::PageCacheRead, self.rate(MAX_CACHED_BYTES, false)),
        ];
        measured.into_iter().flatten().collect()
    }

    /// Returns the maximum rate, in bytes per second, at which the load could have read the files,
    /// given the fraction that was in the page cache. `None` if a required value was not measured.
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

    /// Reads up to `max` bytes with all threads, and returns the rate in bytes per second. If
    /// `direct` is set, the reads bypass the page cache. `None` if a read fails or the files are
    /// too small.
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
    fn the_rate_of_a_new_file_is_measured() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("weights");
        std::fs::write(&path, vec![1u8; 8 << 20]).expect("the file is written");
        let files = FileRates { paths: vec![path], cached: Some(1.0) };
        let ceilings = files.ceilings();
        assert_eq!(ceilings.len(), 1, "{ceilings:?}");
        assert!(ceilings[0].bytes_per_s.get() > 1e8, "{ceilings:?}");
        assert!(files.read_ceiling(&ceilings).is_some_and(|rate| rate > 1e8));
    }

    #[test]
    fn the_uncached_fraction_is_read_at_the_rate_of_the_disk() {
        let ceiling = |name, rate| Ceiling {
            name,
            device: Location::Host,
            bytes_per_s: Finite::new(rate).expect("the rate is finite"),
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

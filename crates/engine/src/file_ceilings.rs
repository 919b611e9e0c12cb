//! How fast the weight files could be read at most: from the page cache, and from the disk. Measured
//! after the load, on the same files.

use modelgate_protocol::{Ceiling, Finite, ModelFiles};
use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

/// Bytes that are read at once.
const READ_BYTES: usize = 4 << 20;
/// Bytes that are read in all, at most.
const CACHED_BYTES: u64 = 4 << 30;
const DIRECT_BYTES: u64 = 1 << 30;
/// Files smaller than this say nothing of a disk.
const LEAST_DIRECT: u64 = 256 << 20;
/// What reads past the page cache are aligned to.
const SECTOR: usize = 4096;

/// Weight files whose reading is held against what it could be.
pub(crate) struct WeightFiles {
    paths: Vec<PathBuf>,
    /// Part of their bytes that was in the page cache before they were read; none where the system
    /// does not tell.
    cached: Option<f64>,
}

impl WeightFiles {
    /// The weights of `files`, as they lie.
    pub(crate) fn of(files: &ModelFiles) -> WeightFiles {
        let cached = files.page_cache_fraction.map(Finite::get);
        WeightFiles { paths: files.weights.clone(), cached }
    }

    /// Measures the ceilings; none where there is no file.
    pub(crate) fn ceilings(&self) -> Vec<Ceiling> {
        let ceiling = |name: &str, rate: Option<f64>| {
            let bytes_per_s = Finite::new(rate?)?;
            Some(Ceiling { name: name.to_owned(), device: "host".to_owned(), bytes_per_s })
        };
        // the disk first: it would fill the page cache otherwise
        let measured = [
            ceiling("disk_read", self.rate(DIRECT_BYTES, true)),
            ceiling("page_cache_read", self.rate(CACHED_BYTES, false)),
        ];
        measured.into_iter().flatten().collect()
    }

    /// What reading them could have reached, from page cache and disk as they lay.
    pub(crate) fn read_ceiling(&self, ceilings: &[Ceiling]) -> Option<f64> {
        let rate = |name: &str| {
            ceilings.iter().find(|c| c.name == name).map(|ceiling| ceiling.bytes_per_s.get())
        };
        let cached = self.cached?;
        let seconds_cached = if cached > 0.0 { cached / rate("page_cache_read")? } else { 0.0 };
        let seconds_disk = if cached < 1.0 { (1.0 - cached) / rate("disk_read")? } else { 0.0 };
        Some(1.0 / (seconds_cached + seconds_disk))
    }

    /// Bytes per second of reading up to `most` bytes with all threads, past the page cache or not.
    fn rate(&self, most: u64, direct: bool) -> Option<f64> {
        let flags = if direct { OFlags::DIRECT } else { OFlags::empty() };
        let mut parts = Vec::new();
        let mut total = 0;
        for path in &self.paths {
            let descriptor = rustix::fs::open(path, OFlags::RDONLY | flags, Mode::empty()).ok()?;
            let file = std::sync::Arc::new(File::from(descriptor));
            let bytes = file.metadata().ok()?.len().min(most - total);
            let whole = bytes - bytes % SECTOR as u64;
            let ends = (0..whole).step_by(READ_BYTES);
            parts
                .extend(ends.map(|from| (file.clone(), from, whole.min(from + READ_BYTES as u64))));
            total += whole;
        }
        if total == 0 || (direct && total < LEAST_DIRECT) {
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
        let files = WeightFiles { paths: vec![path], cached: Some(1.0) };
        let ceilings = files.ceilings();
        assert_eq!(ceilings.len(), 1, "{ceilings:?}");
        assert!(ceilings[0].bytes_per_s.get() > 1e8, "{ceilings:?}");
        assert!(files.read_ceiling(&ceilings).is_some_and(|rate| rate > 1e8));
    }

    #[test]
    fn cold_parts_count_by_the_disk() {
        let ceiling = |name: &str, rate| Ceiling {
            name: name.into(),
            device: "host".into(),
            bytes_per_s: Finite::new(rate).expect("finite"),
        };
        let ceilings = [ceiling("page_cache_read", 10.0), ceiling("disk_read", 1.0)];
        let files = |cached| WeightFiles { paths: Vec::new(), cached };
        assert_eq!(files(Some(1.0)).read_ceiling(&ceilings), Some(10.0));
        assert_eq!(files(Some(0.0)).read_ceiling(&ceilings), Some(1.0));
        assert_eq!(files(Some(0.5)).read_ceiling(&ceilings), Some(1.0 / 0.55));
        assert_eq!(files(Some(0.5)).read_ceiling(&ceilings[..1]), None);
        assert_eq!(files(None).read_ceiling(&ceilings), None);
    }
}

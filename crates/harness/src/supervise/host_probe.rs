//! Host memory of the worker's process, sampled from outside, so that it works for any worker and
//! survives its crash.
//!
//! Source: `/proc/PID/status`, `Documentation/filesystems/proc.rst` of the kernel. Private is
//! `RssAnon + RssShmem`: anonymous and shared memory. Pages of mapped files are the page cache's
//! and not counted. Page-locked memory is resident, so it is in these sums already.

use super::control_group;
use super::timeline::Series;
use crate::measurement::{HostMemory, PeakSource};
use modelgate_protocol::Finite;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two samples. One costs about 60 microseconds (measured), so this is under 1 % of a
/// core, and two are less than 10 ms apart.
const INTERVAL: Duration = Duration::from_millis(8);
/// What [`Shared::after_load`] holds before the load is done.
const NOT_YET: u64 = u64::MAX;

/// One reading, in bytes.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    /// Anonymous and shared memory.
    private: u64,
    /// Resident set, mapped files included.
    rss: u64,
    /// The highest resident set up to then.
    peak_rss: u64,
}

/// A sampler of one process.
pub(super) struct HostProbe {
    shared: Arc<Shared>,
    spawned: Instant,
    thread: JoinHandle<()>,
}

struct Shared {
    status: PathBuf,
    /// Until when samples count, and what the control group's mark was then.
    end: OnceLock<(Instant, Option<u64>)>,
    after_load: AtomicU64,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    samples: Vec<Sample>,
    longest_gap: Duration,
}

impl HostProbe {
    /// Samples process `pid` until stopped; times count from `spawned`.
    pub(super) fn start(pid: u32, spawned: Instant) -> HostProbe {
        let shared = Arc::new(Shared {
            status: PathBuf::from(format!("/proc/{pid}/status")),
            end: OnceLock::new(),
            after_load: AtomicU64::new(NOT_YET),
            log: Mutex::default(),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || sample(&shared)
        });
        HostProbe { shared, spawned, thread }
    }

    /// Notes what the process takes now, when its last tensor is resident.
    pub(super) fn mark_loaded(&self) {
        if let Some(reading) = File::open(&self.shared.status).ok().and_then(|file| read(&file)) {
            self.shared.after_load.store(reading.private, Ordering::Relaxed);
        }
    }

    /// Ends the sampling: what was seen after `at` does not count.
    pub(super) fn end(&self, at: Instant) {
        self.shared.end.get_or_init(|| (at, control_group::peak()));
    }

    /// Ends the sampling and returns what was seen until then, in sum and over time; `None` if the system
    /// shows nothing.
    pub(super) fn stop(self) -> Option<(HostMemory, Vec<Series>)> {
        self.end(Instant::now());
        self.thread.join().ok()?;
        let mut log = self.shared.log.lock().unwrap_or_else(PoisonError::into_inner);
        let (end, cgroup_peak) = self.shared.end.get().copied().unzip();
        log.samples.retain(|sample| end.is_none_or(|end| sample.at <= end));
        let (first, last) = (log.samples.first()?, log.samples.last()?);
        let after_load = match self.shared.after_load.load(Ordering::Relaxed) {
            NOT_YET => None,
            bytes => Some(bytes),
        };
        let sampled = log.samples.iter().map(|sample| sample.private).max().unwrap_or(0);
        let memory = HostMemory {
            before: first.private,
            after_load,
            peak_private: sampled.max(after_load.unwrap_or(0)),
            peak_source: PeakSource::Samples,
            peak_rss: last.peak_rss,
            predicted_peak: None,
            cgroup_peak: cgroup_peak.flatten(),
            samples: log.samples.len() as u64,
            longest_gap_s: Finite::seconds(log.longest_gap),
        };
        let seconds =
            |sample: &Sample| sample.at.saturating_duration_since(self.spawned).as_secs_f64();
        let series = |name: &str, value: fn(&Sample) -> u64, is_kept| Series {
            name: name.to_owned(),
            points: log.samples.iter().map(|sample| (seconds(sample), value(sample))).collect(),
            is_kept,
        };
        let series = vec![
            series("host_private", |sample| sample.private, true),
            series("host_rss", |sample| sample.rss, false),
        ];
        Some((memory, series))
    }
}

fn sample(shared: &Shared) {
    let Ok(file) = File::open(&shared.status) else {
        return;
    };
    let mut last = Instant::now();
    while shared.end.get().is_none() {
        // a process that is gone or a zombie shows no memory: the last sample stays
        let Some(reading) = read(&file) else {
            return;
        };
        let now = Instant::now();
        {
            let mut log = shared.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.longest_gap = log.longest_gap.max(now - last);
            log.samples.push(Sample {
                at: now,
                private: reading.private,
                rss: reading.rss,
                peak_rss: reading.peak_rss,
            });
        }
        last = now;
        std::thread::sleep(INTERVAL);
    }
}

struct Reading {
    private: u64,
    rss: u64,
    peak_rss: u64,
}

/// Reads the status file from its begin; procfs makes its text anew for each such read.
fn read(file: &File) -> Option<Reading> {
    let mut buffer = [0u8; 4096];
    let length = file.read_at(&mut buffer, 0).ok()?;
    let text = std::str::from_utf8(&buffer[..length]).ok()?;
    let bytes = |key: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    };
    Some(Reading {
        private: bytes("RssAnon:")? + bytes("RssShmem:")?,
        rss: bytes("VmRSS:")?,
        peak_rss: bytes("VmHWM:")?,
    })
}

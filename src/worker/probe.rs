//! Host memory of the worker's process, sampled from outside, so that it works for any worker and
//! survives its crash.
//!
//! Source: `/proc/PID/status`, `Documentation/filesystems/proc.rst` of the kernel. Private is
//! `RssAnon + RssShmem`: anonymous and shared memory. Pages of mapped files are the page cache's
//! and not counted. Page-locked memory is resident, so it is in these sums already.

use super::control_group;
use super::timeline::Series;
use modelgate_protocol::{Finite, HostMemory, Measurement, PeakSource};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Seconds from spawn.
    t_s: f64,
    /// Anonymous and shared memory.
    private: u64,
    /// Resident set, mapped files included.
    rss: u64,
}

/// A sampler of one process.
pub(super) struct Probe {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    status: PathBuf,
    stop: AtomicBool,
    after_load: AtomicU64,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    samples: Vec<Sample>,
    peak_rss: u64,
    longest_gap: Duration,
}

impl Probe {
    /// Samples process `pid` until stopped; times count from `spawned`.
    pub(super) fn start(pid: u32, spawned: Instant) -> Probe {
        let shared = Arc::new(Shared {
            status: PathBuf::from(format!("/proc/{pid}/status")),
            stop: AtomicBool::new(false),
            after_load: AtomicU64::new(NOT_YET),
            log: Mutex::default(),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || sample(&shared, spawned)
        });
        Probe { shared, thread }
    }

    /// Notes what the process takes now, when its last tensor is resident.
    pub(super) fn mark_loaded(&self) {
        if let Some(reading) = File::open(&self.shared.status).ok().and_then(|file| read(&file)) {
            self.shared.after_load.store(reading.private, Ordering::Relaxed);
        }
    }

    /// Ends the sampling, adds what was seen to `measurement` and gives it over time; nothing where
    /// the system shows nothing.
    pub(super) fn stop(self, measurement: &mut Measurement) -> Vec<Series> {
        self.shared.stop.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            return Vec::new();
        }
        let log = self.shared.log.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = log.samples.first() else {
            return Vec::new();
        };
        let after_load = match self.shared.after_load.load(Ordering::Relaxed) {
            NOT_YET => None,
            bytes => Some(bytes),
        };
        let sampled = log.samples.iter().map(|sample| sample.private).max().unwrap_or(0);
        measurement.memory.host = Some(HostMemory {
            before: first.private,
            after_load,
            peak_private: sampled.max(after_load.unwrap_or(0)),
            peak_source: PeakSource::Samples,
            peak_rss: log.peak_rss,
            predicted_peak: measurement.memory.prediction.as_ref().map(|p| p.host_peak),
            cgroup_peak: control_group::peak(),
            samples: log.samples.len() as u64,
            longest_gap_s: Finite::seconds(log.longest_gap),
        });
        let series = |name: &str, value: fn(&Sample) -> u64, is_kept| Series {
            name: name.to_owned(),
            points: log.samples.iter().map(|sample| (sample.t_s, value(sample))).collect(),
            is_kept,
        };
        vec![
            series("host_private", |sample| sample.private, true),
            series("host_rss", |sample| sample.rss, false),
        ]
    }
}

fn sample(shared: &Shared, spawned: Instant) {
    let Ok(file) = File::open(&shared.status) else {
        return;
    };
    let mut last = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        // a process that is gone or a zombie shows no memory: the last sample stays
        let Some(reading) = read(&file) else {
            return;
        };
        let now = Instant::now();
        {
            let mut log = shared.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.longest_gap = log.longest_gap.max(now - last);
            log.peak_rss = log.peak_rss.max(reading.peak_rss);
            log.samples.push(Sample {
                t_s: (now - spawned).as_secs_f64(),
                private: reading.private,
                rss: reading.rss,
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

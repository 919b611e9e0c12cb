//! Samples the host memory of a worker process from outside, so that every worker has readings,
//! even after a crash.
//!
//! Source: `/proc/PID/status`, `Documentation/filesystems/proc.rst` of the kernel. Private memory
//! is `RssAnon + RssShmem`: anonymous and shared memory. Pages of mapped files belong to the page
//! cache and do not count. Page-locked memory is resident and therefore included.

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

/// The time between two samples. A sample takes about 60 microseconds (measured), which is less
/// than 1 % of a core.
const INTERVAL: Duration = Duration::from_millis(8);
/// The value of [`SamplerState::after_load`] before the end of the load.
const NOT_YET: u64 = u64::MAX;

/// One sample, in bytes.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    /// Anonymous and shared memory.
    private: u64,
    /// The resident set, with mapped files.
    rss: u64,
    /// The highest resident set so far.
    peak_rss: u64,
}

/// A thread that samples one process.
pub(super) struct HostSampler {
    state: Arc<SamplerState>,
    spawned: Instant,
    thread: JoinHandle<()>,
}

/// The state that the sampling thread shares with its owner.
struct SamplerState {
    /// The path of `/proc/PID/status`.
    status: PathBuf,
    /// The time until which samples count, and the peak of the control group at that time.
    end: OnceLock<(Instant, Option<u64>)>,
    /// The private memory after the load in bytes, or [`NOT_YET`].
    after_load: AtomicU64,
    recorded: Mutex<RecordedSamples>,
}

/// The samples so far, and the longest time between two of them.
#[derive(Default)]
struct RecordedSamples {
    samples: Vec<Sample>,
    longest_gap: Duration,
}

impl HostSampler {
    /// Starts a thread that samples the process `pid`. Times count from `spawned`.
    pub(super) fn start(pid: u32, spawned: Instant) -> HostSampler {
        let state = Arc::new(SamplerState {
            status: PathBuf::from(format!("/proc/{pid}/status")),
            end: OnceLock::new(),
            after_load: AtomicU64::new(NOT_YET),
            recorded: Mutex::default(),
        });
        let thread = std::thread::spawn({
            let state = Arc::clone(&state);
            move || sample(&state)
        });
        HostSampler { state, spawned, thread }
    }

    /// Records the current memory as that of the loaded model.
    pub(super) fn mark_loaded(&self) {
        if let Some(reading) = File::open(&self.state.status).ok().and_then(|file| read(&file)) {
            self.state.after_load.store(reading.private, Ordering::Relaxed);
        }
    }

    /// Ends the sampling at `at`: later samples do not count. Only the first call has an effect.
    pub(super) fn end(&self, at: Instant) {
        self.state.end.get_or_init(|| (at, control_group::peak()));
    }

    /// Stops the sampling, and returns the summary and the samples over time. `None` if the
    /// operating system reports nothing.
    pub(super) fn stop(self) -> Option<(HostMemory, Vec<Series>)> {
        self.end(Instant::now());
        self.thread.join().ok()?;
        let mut recorded = self.state.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let (end, cgroup_peak) = self.state.end.get().copied().unzip();
        recorded.samples.retain(|sample| end.is_none_or(|end| sample.at <= end));
        let (first, last) = (recorded.samples.first()?, recorded.samples.last()?);
        let after_load = match self.state.after_load.load(Ordering::Relaxed) {
            NOT_YET => None,
            bytes => Some(bytes),
        };
        let sampled = recorded.samples.iter().map(|sample| sample.private).max().unwrap_or(0);
        let memory = HostMemory {
            before: first.private,
            after_load,
            peak_private: sampled.max(after_load.unwrap_or(0)),
            peak_source: PeakSource::Samples,
            peak_rss: last.peak_rss,
            predicted_peak: None,
            cgroup_peak: cgroup_peak.flatten(),
            samples: recorded.samples.len() as u64,
            longest_gap_s: Finite::seconds(recorded.longest_gap),
        };
        let seconds =
            |sample: &Sample| sample.at.saturating_duration_since(self.spawned).as_secs_f64();
        let series = |name: &str, value: fn(&Sample) -> u64, keep_extremes| Series {
            name: name.to_owned(),
            points: recorded
                .samples
                .iter()
                .map(|sample| (seconds(sample), value(sample)))
                .collect(),
            keep_extremes,
        };
        let series = vec![
            series("host_private", |sample| sample.private, true),
            series("host_rss", |sample| sample.rss, false),
        ];
        Some((memory, series))
    }
}

/// Samples the process until the end of the sampling or of the process.
fn sample(state: &SamplerState) {
    let Ok(file) = File::open(&state.status) else {
        return;
    };
    let mut last = Instant::now();
    while state.end.get().is_none() {
        // a process that has ended reports no memory: the last sample is kept
        let Some(reading) = read(&file) else {
            return;
        };
        let now = Instant::now();
        {
            let mut recorded = state.recorded.lock().unwrap_or_else(PoisonError::into_inner);
            recorded.longest_gap = recorded.longest_gap.max(now - last);
            recorded.samples.push(Sample {
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

/// One reading of the status file, in bytes.
struct Reading {
    private: u64,
    rss: u64,
    peak_rss: u64,
}

/// Reads the status file from its beginning: procfs generates the text again for each such read.
/// `None` if the process has ended.
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

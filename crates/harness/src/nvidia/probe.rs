//! Samples GPUs during the life of a worker, from outside, so that readings exist for any worker
//! and survive its crash.
//!
//! One thread samples memory and another samples processes: a list of processes can take the driver
//! milliseconds, which must not delay the samples of memory.

use super::readings::{ProcessUse, Readings, Snapshot};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time between two readings of memory, and the minimum time between two lists of processes.
const MIN_INTERVAL: Duration = Duration::from_millis(5);
/// After a list of processes, the thread pauses for this multiple of the time that the list took,
/// because calls of the worker wait for the same driver.
const PAUSE_FACTOR: u32 = 4;
/// The maximum of such a pause, so that a driver that was slow once is asked again.
const MAX_PAUSE: Duration = Duration::from_millis(200);
/// The time between two readings after the end of a worker.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The samples of one GPU. Times are seconds from the spawn.
#[derive(Debug, Clone, Default)]
pub(crate) struct GpuSamples {
    /// Bytes in use by all processes, over time.
    pub(crate) used: Vec<(f64, u64)>,
    /// The longest time without a reading of memory, in seconds.
    pub(crate) longest_gap_s: f64,
    /// The lists of processes, one for each change.
    pub(crate) processes: Vec<(f64, Vec<ProcessUse>)>,
    /// The time of the last list of processes.
    pub(crate) listed_s: f64,
    /// The longest time between two lists of processes, in seconds.
    pub(crate) processes_gap_s: f64,
    /// Names of the processes by id, as far as the operating system shows them.
    pub(crate) names: BTreeMap<u32, String>,
}

/// Threads that sample GPUs.
pub(crate) struct GpuSampler {
    state: Arc<SamplerState>,
    threads: Vec<JoinHandle<()>>,
}

/// The state that the threads of a sampler share.
struct SamplerState {
    readings: Arc<dyn Readings>,
    uuids: Vec<String>,
    spawned: Instant,
    /// Readings after this time do not count.
    end: OnceLock<Instant>,
    samples: Mutex<Vec<GpuSamples>>,
}

impl GpuSampler {
    /// Samples the GPUs `uuids` until stopped. Times count from `spawned`. Starts nothing if
    /// `uuids` is empty.
    pub(crate) fn start(
        readings: Arc<dyn Readings>,
        uuids: Vec<String>,
        spawned: Instant,
    ) -> GpuSampler {
        let samples = Mutex::new(vec![GpuSamples::default(); uuids.len()]);
        let state =
            Arc::new(SamplerState { readings, uuids, spawned, end: OnceLock::new(), samples });
        let readers: &[(ReadingFunction, u32)] =
            if state.uuids.is_empty() { &[] } else { &[(memory, 0), (processes, PAUSE_FACTOR)] };
        let threads = readers
            .iter()
            .map(|&(read, pause)| {
                let state = Arc::clone(&state);
                std::thread::spawn(move || repeat(&state, read, pause))
            })
            .collect();
        GpuSampler { state, threads }
    }

    /// Ends the sampling: readings after `at` do not count.
    pub(crate) fn end(&self, at: Instant) {
        // the first end counts
        let _ = self.state.end.set(at);
    }

    /// Stops the sampling and returns the samples of each GPU, in the order of the UUIDs.
    pub(crate) fn stop(self) -> Vec<GpuSamples> {
        let end = *self.state.end.get_or_init(Instant::now);
        let end_s = end.saturating_duration_since(self.state.spawned).as_secs_f64();
        for thread in self.threads {
            // the samples of a thread that panicked are kept
            let _ = thread.join();
        }
        let mut samples =
            std::mem::take(&mut *self.state.samples.lock().unwrap_or_else(PoisonError::into_inner));
        for log in &mut samples {
            log.used.retain(|(t_s, _)| *t_s <= end_s);
            log.processes.retain(|(t_s, _)| *t_s <= end_s);
            // a driver that stops answering leaves a gap up to the end
            log.longest_gap_s = log.longest_gap_s.max(end_s - last_s(log));
        }
        samples
    }
}

/// A function that takes one reading of the GPU with this index.
type ReadingFunction = fn(&SamplerState, usize);

/// Takes a reading of every GPU repeatedly, with a pause of `pause` times the duration of the
/// reading.
fn repeat(state: &SamplerState, read: ReadingFunction, pause: u32) {
    while state.end.get().is_none() {
        let started = Instant::now();
        for gpu in 0..state.uuids.len() {
            read(state, gpu);
        }
        let cost = started.elapsed();
        std::thread::sleep((cost * pause).clamp(MIN_INTERVAL, MAX_PAUSE));
    }
}

/// Reads the memory of the GPU with this index.
fn memory(state: &SamplerState, gpu: usize) {
    let Ok(reading) = state.readings.memory(&state.uuids[gpu]) else {
        return;
    };
    let t_s = state.spawned.elapsed().as_secs_f64();
    let mut samples = state.samples.lock().unwrap_or_else(PoisonError::into_inner);
    let log = &mut samples[gpu];
    log.longest_gap_s = log.longest_gap_s.max(t_s - last_s(log));
    log.used.push((t_s, reading.used));
}

/// Returns the time of the last reading of memory, in seconds.
fn last_s(log: &GpuSamples) -> f64 {
    log.used.last().map_or(0.0, |(t_s, _)| *t_s)
}

/// Reads the list of processes of the GPU with this index.
fn processes(state: &SamplerState, gpu: usize) {
    let Some(list) = state.readings.processes(&state.uuids[gpu]) else {
        return;
    };
    let t_s = state.spawned.elapsed().as_secs_f64();
    let known = |log: &GpuSamples, pid: &u32| log.names.contains_key(pid);
    let new_pids: Vec<u32> = {
        let samples = state.samples.lock().unwrap_or_else(PoisonError::into_inner);
        list.iter().map(|process| process.pid).filter(|pid| !known(&samples[gpu], pid)).collect()
    };
    // the name is read immediately, because the process may end
    let named: Vec<(u32, String)> =
        new_pids.into_iter().filter_map(|pid| Some((pid, state.readings.name(pid)?))).collect();
    let mut samples = state.samples.lock().unwrap_or_else(PoisonError::into_inner);
    let log = &mut samples[gpu];
    log.names.extend(named);
    log.processes_gap_s = log.processes_gap_s.max(t_s - log.listed_s);
    log.listed_s = t_s;
    if log.processes.last().is_none_or(|(_, last)| *last != list) {
        log.processes.push((t_s, list));
    }
}

/// Reads the GPU `uuid` after the end of a worker, until `is_released` returns true or `max_wait` has
/// passed, because the driver needs time to free the memory of a process.
pub(crate) fn wait_for_release(
    readings: &dyn Readings,
    uuid: &str,
    max_wait: Duration,
    is_released: impl Fn(&Snapshot) -> bool,
) -> Option<Snapshot> {
    let until = Instant::now() + max_wait;
    loop {
        let snapshot = Snapshot::take(readings, uuid).ok();
        let back = snapshot.as_ref().is_some_and(&is_released);
        if back || Instant::now() >= until {
            return snapshot;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::super::readings::MemoryReading;
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A GPU with a slow list of processes.
    struct SlowProcessList {
        used: AtomicU64,
    }

    impl Readings for SlowProcessList {
        fn memory(&self, _: &str) -> Result<MemoryReading, String> {
            let used = self.used.load(Ordering::Relaxed);
            Ok(MemoryReading { used, total: 80 })
        }
        fn processes(&self, uuid: &str) -> Option<Vec<ProcessUse>> {
            std::thread::sleep(Duration::from_millis(30));
            let used = Some(self.used.load(Ordering::Relaxed));
            (uuid == "GPU-1").then(|| vec![ProcessUse { pid: 7, used }])
        }
        fn name(&self, pid: u32) -> Option<String> {
            Some(format!("process {pid}"))
        }
    }

    #[test]
    fn slow_lists_of_processes_do_not_delay_samples_of_memory() {
        let slow = Arc::new(SlowProcessList { used: AtomicU64::new(1) });
        let readings: Arc<dyn Readings> = Arc::clone(&slow) as Arc<dyn Readings>;
        let uuids = vec!["GPU-1".to_owned(), "GPU-2".to_owned()];
        let sampler = GpuSampler::start(readings, uuids, Instant::now());
        std::thread::sleep(Duration::from_millis(300));
        slow.used.store(2, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(600));
        let samples = sampler.stop();
        let log = &samples[0];
        // a busy host may delay single samples, but not most samples
        assert!(log.used.len() > 60, "{} samples", log.used.len());
        assert_eq!(log.used.first().map(|(_, used)| *used), Some(1));
        assert_eq!(log.used.last().map(|(_, used)| *used), Some(2));
        let figures: Vec<_> = log.processes.iter().map(|(_, list)| list[0].used).collect();
        assert_eq!(figures, [Some(1), Some(2)], "only changes are kept");
        assert_eq!(log.names.get(&7).map(String::as_str), Some("process 7"));
        assert!(log.longest_gap_s > 0.0 && log.processes_gap_s >= 0.03, "{log:?}");
        assert!(samples[1].processes.is_empty() && !samples[1].used.is_empty());
    }

    #[test]
    fn readings_after_the_end_do_not_count() {
        let slow = Arc::new(SlowProcessList { used: AtomicU64::new(1) });
        let readings: Arc<dyn Readings> = Arc::clone(&slow) as Arc<dyn Readings>;
        let sampler = GpuSampler::start(readings, vec!["GPU-1".to_owned()], Instant::now());
        std::thread::sleep(Duration::from_millis(200));
        let end = Instant::now();
        slow.used.store(2, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(200));
        sampler.end(end);
        std::thread::sleep(Duration::from_millis(50));
        let log = sampler.stop().remove(0);
        let used: Vec<u64> = log.used.iter().map(|(_, used)| *used).collect();
        assert!(!used.is_empty() && used.iter().all(|used| *used == 1), "{used:?}");
        let listed: Vec<_> = log.processes.iter().map(|(_, list)| list[0].used).collect();
        assert_eq!(listed, [Some(1)]);
    }

    /// A GPU that stops answering after its first readings.
    struct LostGpu(AtomicU64);

    impl Readings for LostGpu {
        fn memory(&self, _: &str) -> Result<MemoryReading, String> {
            let nth = self.0.fetch_add(1, Ordering::Relaxed);
            (nth < 3).then_some(MemoryReading { used: 1, total: 80 }).ok_or("lost".to_owned())
        }
        fn processes(&self, _: &str) -> Option<Vec<ProcessUse>> {
            None
        }
        fn name(&self, _: u32) -> Option<String> {
            None
        }
    }

    #[test]
    fn a_driver_that_stops_answering_leaves_a_gap() {
        let sampler = GpuSampler::start(
            Arc::new(LostGpu(AtomicU64::new(0))),
            vec!["GPU-1".to_owned()],
            Instant::now(),
        );
        std::thread::sleep(Duration::from_millis(600));
        let log = sampler.stop().remove(0);
        let (last, _) = log.used.last().expect("readings");
        assert_eq!(log.used.len(), 3);
        assert!(log.longest_gap_s >= 0.6 - last, "{log:?}");
    }

    #[test]
    fn the_final_memory_reading_waits_until_the_memory_of_the_worker_is_released() {
        let slow = SlowProcessList { used: AtomicU64::new(9) };
        let started = Instant::now();
        let max_wait = Duration::from_millis(100);
        let snapshot = wait_for_release(&slow, "GPU-2", max_wait, |now| now.memory.used <= 5);
        assert_eq!(snapshot.map(|now| now.memory.used), Some(9));
        assert!(started.elapsed() >= max_wait);
        slow.used.store(5, Ordering::Relaxed);
        let started = Instant::now();
        wait_for_release(&slow, "GPU-2", Duration::from_secs(60), |now| now.memory.used <= 5);
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}

//! Computes how much memory of one GPU a worker used, from readings. Pure arithmetic.
//!
//! No single source shows the memory of a worker completely and exactly, so two views are combined.
//!
//! *From inside*, the worker sends marks: the bytes that its allocator (the pool) has reserved, the
//! highest number that it ever reserved, and the bytes in use outside of the pool, which include
//! all other use of the GPU:
//!
//! ```text
//! outside(t) = total - free(t) - reserved(t)
//!            = memory of the worker outside its pool(t) + others(t)
//! ```
//!
//! *From outside*, NVML reports the bytes in use by all processes and, if the driver supports it,
//! by each process. `before` is the use of all processes just before the spawn, and `growth(t)` is
//! the change since then of the processes that are not the worker:
//!
//! ```text
//! others(t)       = before + growth(t)
//! outside_worker  = maximum of outside - others, over all intervals between two marks
//! peak            = reserved_peak + outside_worker, at least the highest sample of NVML
//! ```
//!
//! `reserved_peak` is exact. A mark contains the highest `outside` of all time until the mark,
//! without its time. It is therefore assigned to the interval in which it rose, and the largest
//! growth around this interval is subtracted: a list of processes can be late by the time that the
//! driver needs for it. The sum can exceed the true peak if the two parts had their peaks at
//! different times; it is never below the samples.
//!
//! Without marks, or without a mark before or after the load, the peak is the highest sample of
//! NVML.
//!
//! In a container, NVML can report the process ids of the host, so that no process is recognized as
//! the worker. The memory of the worker is then the growth of all processes, without the growth of
//! those that existed before. One new process counts as the worker. If there is a second one, or if
//! other signs show that another process allocated or released memory, the figures can contain
//! memory of others, and `attribution_problem` gives the reason.

use super::probe::GpuSamples;
use super::readings::{ProcessUse, Snapshot};
use crate::measurement::{DeviceMemory, ForeignProcess, PeakSource, UNLOAD_TOLERANCE};
use modelgate_model::units::format_bytes;
use modelgate_protocol::{Device, Finite, PoolMemory};
use std::collections::{BTreeMap, BTreeSet};

/// Memory in use that belongs to no visible process counts as memory of another process above this
/// number of bytes. Below it, the memory can belong to the worker: kernels and workspaces are
/// loaded on first use, outside of its allocator, and the driver does not assign every byte to a
/// process.
const MAX_UNATTRIBUTED_BYTES: u64 = 512 << 20;
/// The time in seconds after which memory without a visible owner counts, if the driver lists all
/// processes. A short spike of the worker falls between two lists.
const MIN_UNATTRIBUTED_S: f64 = 0.5;
/// The minimum time in seconds by which a change of the memory and the list that shows it can be
/// apart.
const MIN_LAG_S: f64 = 0.05;

/// A report of the worker about its memory, with its time in seconds from the spawn.
#[derive(Debug, Clone)]
pub(crate) struct MemoryMark {
    pub(crate) t_s: f64,
    pub(crate) memory: PoolMemory,
}

/// All readings of one GPU during the life of one worker.
pub(crate) struct WorkerReadings<'a> {
    /// The device, as the manifest names it.
    pub(crate) device: Device,
    /// The UUID of the GPU.
    pub(crate) uuid: &'a str,
    /// The state before the spawn.
    pub(crate) before: &'a Snapshot,
    /// The samples during the life of the worker.
    pub(crate) log: &'a GpuSamples,
    /// The state after the end of the worker. `None` if it could not be read.
    pub(crate) after: Option<&'a Snapshot>,
    /// The process id of the worker.
    pub(crate) worker: u32,
    /// The marks of the worker, in order of time.
    pub(crate) marks: &'a [MemoryMark],
    /// The bytes that the worker reported before its first weight.
    pub(crate) baseline: Option<u64>,
    /// The time at which its last tensor was resident, in seconds from the spawn.
    pub(crate) loaded_s: Option<f64>,
}

/// Returns the figures of one GPU, and the memory of the worker over time as seen from outside:
/// pairs of seconds and bytes.
pub(crate) fn device_memory(readings: &WorkerReadings<'_>) -> (DeviceMemory, Vec<(f64, u64)>) {
    let computation = Computation::of(readings);
    let loaded = readings.loaded_s.unwrap_or(f64::INFINITY);
    let figures = DeviceMemory {
        device: readings.device,
        uuid: readings.uuid.to_owned(),
        before: readings.before.memory.used,
        after_load: readings.loaded_s.map_or(0, |at| computation.use_at(at)),
        peak_load: computation.peak(loaded),
        peak: computation.peak(f64::INFINITY),
        peak_source: readings.source(),
        after_unload: readings.after.map(|after| readings.used_after_end(after)),
        predicted_peak: None,
        foreign_peak: computation.foreign_peak(),
        foreign_processes: computation.foreign(),
        per_process: computation.per_process,
        attribution_problem: computation.attribution_problem(),
        outside_allocator_gap_s: readings.marks.last().map(|mark| mark.memory.longest_gap_s),
        samples: readings.log.used.len() as u64,
        longest_gap_s: Finite::new(readings.log.longest_gap_s),
    };
    (figures, computation.worker_use)
}

impl<'a> WorkerReadings<'a> {
    /// Returns the source of the peaks: samples, if the worker sent no mark before or after its
    /// load.
    fn source(&self) -> PeakSource {
        let loaded = self.loaded_s.unwrap_or(f64::INFINITY);
        match (self.marks.first(), self.marks.last()) {
            (Some(first), Some(last)) if first.t_s <= loaded => match self.loaded_s {
                Some(loaded) if last.t_s <= loaded => PeakSource::Samples,
                _ => PeakSource::HighWaterMark,
            },
            _ => PeakSource::Samples,
        }
    }

    /// Returns the lists of processes with their times. Empty if the driver did not list processes
    /// from the beginning.
    fn lists(&self) -> impl Iterator<Item = (f64, &'a [ProcessUse])> + use<'a> {
        let known = self.before.processes.is_some();
        let lists = self.log.processes.iter().map(|(t_s, list)| (*t_s, list.as_slice()));
        lists.filter(move |_| known)
    }

    /// Returns the processes before the spawn.
    fn processes_before(&self) -> &'a [ProcessUse] {
        self.before.processes.as_deref().unwrap_or_default()
    }

    /// Returns the processes after the end of the worker.
    fn processes_after(&self) -> &'a [ProcessUse] {
        self.after.and_then(|after| after.processes.as_deref()).unwrap_or_default()
    }

    /// Returns by how many bytes the memory of foreign processes in `list` exceeds that before the
    /// spawn.
    fn growth(&self, list: &[ProcessUse], is_foreign: impl Fn(u32) -> bool) -> i64 {
        signed(sum_of(list, &is_foreign)) - signed(sum_of(self.processes_before(), &is_foreign))
    }

    /// Returns the growth of all processes after the end of the worker, when none of them is the
    /// worker.
    fn growth_after_end(&self, after: &Snapshot) -> i64 {
        match (&self.before.processes, &after.processes) {
            (Some(_), Some(list)) => self.growth(list, |pid| pid != self.worker),
            _ => 0,
        }
    }

    /// Returns the bytes in use after the end of the worker, without the growth of other processes.
    fn used_after_end(&self, after: &Snapshot) -> u64 {
        after.memory.used.saturating_add_signed(-self.growth_after_end(after))
    }

    /// Returns whether all GPU memory of the worker has been released.
    pub(crate) fn is_released(&self, now: &Snapshot) -> bool {
        self.used_after_end(now) <= self.before.memory.used.saturating_add(UNLOAD_TOLERANCE)
    }
}

/// The intermediate values of the computation for one worker.
struct Computation<'a> {
    readings: &'a WorkerReadings<'a>,
    /// Whether the driver reports the memory of the worker as a process.
    per_process: bool,
    /// The growth of other processes in bytes, each value with the time from which it holds.
    growth: Vec<(f64, i64)>,
    /// The memory of the worker as seen from outside, over time.
    worker_use: Vec<(f64, u64)>,
    /// The maximum delay of a list of processes, in seconds.
    lag_s: f64,
}

impl<'a> Computation<'a> {
    fn of(readings: &'a WorkerReadings<'a>) -> Computation<'a> {
        let per_process = readings.lists().any(|(_, list)| use_of(list, readings.worker).is_some());
        let lag_s = readings.log.processes_gap_s.max(MIN_LAG_S);
        let mut computation = Computation {
            readings,
            per_process,
            growth: Vec::new(),
            worker_use: Vec::new(),
            lag_s,
        };
        let growth = |list| readings.growth(list, |pid| computation.is_foreign(pid));
        let mut changes = vec![(0.0, 0)];
        changes.extend(readings.lists().map(|(t_s, list)| (t_s, growth(list))));
        changes.dedup_by_key(|(_, growth)| *growth);
        computation.growth = changes;
        computation.worker_use = if per_process {
            let used = |list| use_of(list, readings.worker).unwrap_or(0);
            readings.lists().map(|(t_s, list)| (t_s, used(list))).collect()
        } else {
            let own =
                |(t_s, used): &(f64, u64)| (*t_s, computation.without_foreign(*used, *t_s, *t_s));
            readings.log.used.iter().map(own).collect()
        };
        computation
    }

    /// Returns the highest memory of the worker until `end`.
    fn peak(&self, end: f64) -> u64 {
        let marks = self.readings.marks.iter().take_while(|mark| mark.t_s <= end);
        let reserved = marks.map(|mark| mark.memory.reserved_peak.max(mark.memory.reserved)).max();
        let sampled =
            self.worker_use.iter().take_while(|(t_s, _)| *t_s <= end).map(|(_, used)| *used);
        let from_marks = reserved.unwrap_or(0).saturating_add(self.outside(end));
        from_marks.max(sampled.max().unwrap_or(0))
    }

    /// Returns the highest memory of the worker outside of its allocator until `end`.
    fn outside(&self, end: f64) -> u64 {
        let (mut since, mut highest) = (0.0, 0);
        let mut peak = 0;
        for MemoryMark { t_s, memory } in
            self.readings.marks.iter().take_while(|mark| mark.t_s <= end)
        {
            let risen = memory.outside_peak > highest;
            let outside = if risen { memory.outside_peak } else { memory.outside };
            peak = peak.max(self.without_foreign(outside, since, *t_s));
            highest = highest.max(memory.outside_peak);
            since = *t_s;
        }
        peak
    }

    /// Returns `used` (bytes of all processes at a time between `from` and `to`) without the memory
    /// of other processes in that time.
    fn without_foreign(&self, used: u64, from: f64, to: f64) -> u64 {
        let growth = highest(&self.growth, from - self.lag_s, to + self.lag_s).unwrap_or(0);
        let others = signed(self.readings.before.memory.used).saturating_add(growth);
        u64::try_from(signed(used).saturating_sub(others)).unwrap_or(0)
    }

    /// Returns the memory of the worker at `at`, when its last tensor was resident.
    fn use_at(&self, at: f64) -> u64 {
        let mark = self.readings.marks.iter().take_while(|mark| mark.t_s <= at).last();
        if let Some(MemoryMark { t_s, memory }) = mark {
            let outside = self.without_foreign(memory.outside, *t_s, *t_s);
            return memory.reserved.saturating_add(outside);
        }
        // only the next list may show the complete memory
        let at = if self.per_process { at + self.lag_s } else { at };
        highest(&self.worker_use, at, at).unwrap_or(0)
    }

    /// Returns whether `pid` is certainly not the worker.
    fn is_foreign(&self, pid: u32) -> bool {
        let existed_before =
            || self.readings.processes_before().iter().any(|process| process.pid == pid);
        pid != self.readings.worker && (self.per_process || existed_before())
    }

    /// Returns the processes that started during the life of the worker and might be the worker.
    fn new_processes(&self) -> BTreeSet<u32> {
        let lists = self.readings.lists().flat_map(|(_, list)| list);
        let pids = lists.map(|process| process.pid);
        pids.filter(|pid| *pid != self.readings.worker && !self.is_foreign(*pid)).collect()
    }

    /// Returns the highest memory of all foreign processes together.
    fn foreign_peak(&self) -> u64 {
        let lists =
            self.readings.lists().map(|(_, list)| list).chain([self.readings.processes_before()]);
        lists.map(|list| sum_of(list, &|pid| self.is_foreign(pid))).max().unwrap_or(0)
    }

    /// Returns the foreign processes whose memory grew.
    fn foreign(&self) -> Vec<ForeignProcess> {
        let readings = self.readings;
        let still_runs = |pid: u32| {
            pid != readings.worker
                && readings.processes_after().iter().any(|process| process.pid == pid)
        };
        let mut peaks: BTreeMap<u32, u64> = BTreeMap::new();
        for ProcessUse { pid, used } in readings.lists().flat_map(|(_, list)| list) {
            let entry = peaks.entry(*pid).or_default();
            *entry = (*entry).max(used.unwrap_or(0));
        }
        let grown = |(pid, peak): (u32, u64)| {
            let bytes = peak.saturating_sub(use_of(readings.processes_before(), pid).unwrap_or(0));
            // in another PID namespace, the id belongs to a different process here
            let name = readings.log.names.get(&pid).filter(|_| self.per_process).cloned();
            let counts = bytes > 0 && (self.is_foreign(pid) || still_runs(pid));
            counts.then_some(ForeignProcess { pid, name, bytes })
        };
        peaks.into_iter().filter_map(grown).collect()
    }

    /// Returns why the figures may contain memory of other processes.
    fn attribution_problem(&self) -> Option<String> {
        let unreported =
            |process: &&ProcessUse| process.used.is_none() && self.is_foreign(process.pid);
        if let Some(process) = self.readings.lists().flat_map(|(_, list)| list).find(unreported) {
            return Some(format!(
                "the driver does not report the memory of process {}",
                process.pid
            ));
        }
        if self.per_process { self.unattributed_memory() } else { self.unidentified_worker() }
    }

    /// Returns the reason if the driver shows each process: memory that belongs to no process for a
    /// long time. A process that ends may leave the list before its memory is free.
    fn unattributed_memory(&self) -> Option<String> {
        let is_listed = |list| use_of(list, self.readings.worker).is_some();
        let mut since_listed = self.readings.lists().skip_while(|(_, list)| !is_listed(list));
        let end =
            since_listed.find(|(_, list)| !is_listed(list)).map_or(f64::INFINITY, |(t_s, _)| t_s);
        let (mut since, mut least) = (None, u64::MAX);
        for (t_s, used) in self.readings.log.used.iter().take_while(|(t_s, _)| *t_s < end) {
            let all = self.without_foreign(*used, *t_s, *t_s);
            let worker = highest(&self.worker_use, t_s - self.lag_s, t_s + self.lag_s).unwrap_or(0);
            let unattributed = all.saturating_sub(worker);
            if unattributed <= MAX_UNATTRIBUTED_BYTES {
                (since, least) = (None, u64::MAX);
                continue;
            }
            least = least.min(unattributed);
            if t_s - *since.get_or_insert(*t_s) >= MIN_UNATTRIBUTED_S {
                let bytes = format_bytes(least);
                return Some(format!("no visible process owns {bytes} of the memory in use"));
            }
        }
        None
    }

    /// Returns the reason if the driver does not show the worker.
    fn unidentified_worker(&self) -> Option<String> {
        let unidentified = "the driver does not show which process is the worker";
        let readings = self.readings;
        let new_processes = self.new_processes();
        if new_processes.len() > 1 {
            let pids: Vec<String> = new_processes.iter().map(u32::to_string).collect();
            return Some(format!(
                "{unidentified}, and more than one process started: {}",
                pids.join(", ")
            ));
        }
        if let Some(process) =
            readings.processes_after().iter().find(|process| new_processes.contains(&process.pid))
        {
            return Some(format!(
                "process {} started during the run and is still running",
                process.pid
            ));
        }
        if let Some(after) = readings.after {
            let released =
                readings.before.memory.used.saturating_sub(readings.used_after_end(after));
            if released > UNLOAD_TOLERANCE {
                return Some(format!(
                    "{unidentified}, and {} that were in use before the worker are not in use \
                     after it",
                    format_bytes(released)
                ));
            }
        }
        let outside = self.outside(f64::INFINITY);
        match readings.baseline {
            Some(baseline) if outside > baseline.saturating_add(MAX_UNATTRIBUTED_BYTES) => {
                Some(format!(
                    "{unidentified}, and the memory outside its allocator exceeds its baseline by \
                     {}",
                    format_bytes(outside - baseline)
                ))
            }
            _ => None,
        }
    }
}

/// Returns the highest value between `from` and `to` of a quantity that keeps each value until the
/// next one. `None` if the first value comes after `to`.
fn highest<T: Copy + Ord>(points: &[(f64, T)], from: f64, to: f64) -> Option<T> {
    let begin = points.partition_point(|(t_s, _)| *t_s <= from).saturating_sub(1);
    let points = points[begin..].iter().take_while(|(t_s, _)| *t_s <= to);
    points.map(|(_, value)| *value).max()
}

/// Returns the memory of the processes for which `counts` is true.
fn sum_of(list: &[ProcessUse], counts: &impl Fn(u32) -> bool) -> u64 {
    let counted = list.iter().filter(|process| counts(process.pid));
    counted.map(|process| process.used.unwrap_or(0)).fold(0, u64::saturating_add)
}

/// Returns the memory of process `pid` in bytes. `None` if the list does not contain the process or
/// its memory.
fn use_of(list: &[ProcessUse], pid: u32) -> Option<u64> {
    list.iter().find(|process| process.pid == pid)?.used
}

/// Converts bytes to a signed number: no GPU has more than 2^63 bytes.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::readings::MemoryReading;
    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;
    const WORKER: u32 = 100;
    /// The memory of the context of the worker.
    const CONTEXT: u64 = 500 * MIB;
    /// The memory of other processes before the spawn.
    const BEFORE: u64 = 40 * MIB;

    fn snapshot(used: u64, list: Option<&[(u32, u64)]>) -> Snapshot {
        Snapshot { memory: MemoryReading { used, total: 80 * GIB }, processes: list.map(processes) }
    }

    fn processes(list: &[(u32, u64)]) -> Vec<ProcessUse> {
        list.iter().map(|(pid, used)| ProcessUse { pid: *pid, used: Some(*used) }).collect()
    }

    fn mark(t_s: f64, reserved: [u64; 2], outside: [u64; 2]) -> MemoryMark {
        let memory = PoolMemory {
            device: Device::Cuda(0),
            uuid: "GPU-1".into(),
            reserved: reserved[0],
            reserved_peak: reserved[1],
            outside: outside[0],
            outside_peak: outside[1],
            longest_gap_s: Finite::new(0.003).expect("finite"),
        };
        MemoryMark { t_s, memory }
    }

    /// The readings of a worker that ends its load after two seconds.
    struct Scenario {
        before: Snapshot,
        log: GpuSamples,
        after: Snapshot,
        marks: Vec<MemoryMark>,
        baseline: Option<u64>,
    }

    impl Scenario {
        /// Creates readings with lists of processes at these seconds. The memory in use is their
        /// sum and [`BEFORE`].
        fn new(lists: &[(f64, &[(u32, u64)])]) -> Scenario {
            let sum = |list: &[(u32, u64)]| BEFORE + list.iter().map(|(_, used)| used).sum::<u64>();
            let used = lists.iter().map(|(t_s, list)| (*t_s, sum(list))).collect();
            let lists = lists.iter().map(|(t_s, list)| (*t_s, processes(list))).collect();
            let log = GpuSamples {
                used,
                processes: lists,
                processes_gap_s: 0.01,
                ..GpuSamples::default()
            };
            Scenario {
                before: snapshot(BEFORE, Some(&[])),
                log,
                after: snapshot(BEFORE, Some(&[])),
                marks: Vec::new(),
                baseline: Some(CONTEXT),
            }
        }

        fn readings(&self) -> WorkerReadings<'_> {
            WorkerReadings {
                device: Device::Cuda(0),
                uuid: "GPU-1",
                before: &self.before,
                log: &self.log,
                after: Some(&self.after),
                worker: WORKER,
                marks: &self.marks,
                baseline: self.baseline,
                loaded_s: Some(2.0),
            }
        }

        fn figures(&self) -> DeviceMemory {
            device_memory(&self.readings()).0
        }
    }

    #[test]
    fn the_peak_of_a_quiet_load_is_pool_and_context() {
        let mut scenario =
            Scenario::new(&[(0.5, &[(WORKER, CONTEXT)]), (1.9, &[(WORKER, CONTEXT + 5 * GIB)])]);
        let outside = BEFORE + CONTEXT;
        scenario.marks = vec![
            mark(0.6, [0, 0], [outside, outside]),
            mark(1.95, [5 * GIB, 6 * GIB], [outside, outside]),
            mark(4.0, [5 * GIB, 7 * GIB], [outside, outside + 10 * MIB]),
        ];
        let figures = scenario.figures();
        assert_eq!(figures.before, BEFORE);
        assert_eq!(figures.after_load, CONTEXT + 5 * GIB);
        assert_eq!(figures.peak_load, CONTEXT + 6 * GIB);
        assert_eq!(figures.peak, CONTEXT + 7 * GIB + 10 * MIB);
        assert_eq!(figures.peak_source, PeakSource::HighWaterMark);
        assert_eq!(figures.after_unload, Some(BEFORE));
        assert_eq!(
            (figures.foreign_peak, &figures.foreign_processes[..], figures.attribution_problem),
            (0, &[][..], None)
        );
        assert!(figures.per_process && figures.outside_allocator_gap_s.is_some());
    }

    #[test]
    fn memory_of_another_process_is_reported_and_not_counted() {
        let mut scenario = Scenario::new(&[
            (0.5, &[(WORKER, CONTEXT)]),
            (1.0, &[(77, 2 * GIB), (WORKER, CONTEXT + GIB)]),
            (1.9, &[(77, 2 * GIB), (WORKER, CONTEXT + 5 * GIB)]),
        ]);
        scenario.log.names.insert(77, "python".into());
        let (alone, both) = (BEFORE + CONTEXT, BEFORE + CONTEXT + 2 * GIB);
        scenario.marks = vec![
            mark(0.6, [0, 0], [alone, alone]),
            mark(1.95, [5 * GIB, 6 * GIB], [both, both]),
            mark(4.0, [5 * GIB, 6 * GIB], [both, both]),
        ];
        scenario.after = snapshot(BEFORE + 2 * GIB, Some(&[(77, 2 * GIB)]));
        let figures = scenario.figures();
        assert_eq!(figures.peak, CONTEXT + 6 * GIB);
        assert_eq!(figures.after_load, CONTEXT + 5 * GIB);
        assert_eq!(figures.after_unload, Some(BEFORE), "memory of the other process");
        assert_eq!(figures.foreign_peak, 2 * GIB);
        let foreign = ForeignProcess { pid: 77, name: Some("python".into()), bytes: 2 * GIB };
        assert_eq!(figures.foreign_processes, [foreign]);
        assert_eq!(figures.attribution_problem, None);
    }

    #[test]
    fn a_spike_through_the_pool_is_exact() {
        let mut scenario = Scenario::new(&[(0.5, &[(WORKER, CONTEXT + 5 * GIB)])]);
        let outside = BEFORE + CONTEXT;
        scenario.marks = vec![
            mark(1.0, [5 * GIB, 5 * GIB], [outside, outside]),
            mark(3.0, [5 * GIB, 8 * GIB], [outside, outside]),
        ];
        let figures = scenario.figures();
        assert_eq!(figures.peak, CONTEXT + 8 * GIB, "no sample shows the spike");
        assert_eq!(figures.peak_source, PeakSource::HighWaterMark);
        assert_eq!(figures.peak_load, CONTEXT + 5 * GIB, "the spike came after the load");
    }

    #[test]
    fn a_spike_outside_the_pool_is_counted_if_the_worker_sampled_it() {
        let mut scenario = Scenario::new(&[(0.5, &[(WORKER, CONTEXT + 5 * GIB)])]);
        let outside = BEFORE + CONTEXT;
        scenario.marks = vec![
            mark(1.0, [5 * GIB, 5 * GIB], [outside, outside + 3 * GIB]),
            mark(3.0, [5 * GIB, 5 * GIB], [outside, outside + 3 * GIB]),
        ];
        assert_eq!(scenario.figures().peak, CONTEXT + 8 * GIB);
        // another process starts later: the spike was before that
        scenario
            .log
            .processes
            .push((2.5, processes(&[(77, 2 * GIB), (WORKER, CONTEXT + 5 * GIB)])));
        assert_eq!(scenario.figures().peak, CONTEXT + 8 * GIB);
    }

    #[test]
    fn the_peak_is_at_least_the_highest_sample_of_nvml() {
        let mut scenario = Scenario::new(&[(0.5, &[(WORKER, CONTEXT + 9 * GIB)])]);
        let outside = BEFORE + CONTEXT;
        scenario.marks = vec![mark(3.0, [5 * GIB, 5 * GIB], [outside, outside])];
        assert_eq!(scenario.figures().peak, CONTEXT + 9 * GIB);
    }

    #[test]
    fn memory_that_other_processes_release_is_not_subtracted_from_the_worker() {
        let mut scenario = Scenario::new(&[
            (0.5, &[(77, 3 * GIB), (WORKER, CONTEXT)]),
            (1.0, &[(WORKER, CONTEXT + GIB)]),
            (1.9, &[(WORKER, CONTEXT + 5 * GIB)]),
        ]);
        scenario.before = snapshot(BEFORE + 3 * GIB, Some(&[(77, 3 * GIB)]));
        let (both, alone) = (BEFORE + CONTEXT + 3 * GIB, BEFORE + CONTEXT);
        scenario.marks = vec![
            mark(0.6, [0, 0], [both, both]),
            mark(1.95, [5 * GIB, 5 * GIB], [alone, both]),
            mark(4.0, [5 * GIB, 5 * GIB], [alone, both]),
        ];
        let figures = scenario.figures();
        assert_eq!(figures.peak, CONTEXT + 5 * GIB);
        assert_eq!(figures.after_load, CONTEXT + 5 * GIB);
        assert_eq!(figures.after_unload, Some(BEFORE + 3 * GIB), "as before the spawn");
        assert_eq!(
            (figures.attribution_problem, figures.foreign_processes.len()),
            (None, 0),
            "no process grew"
        );
        assert_eq!(figures.foreign_peak, 3 * GIB);
    }

    #[test]
    fn without_marks_the_peak_comes_from_samples() {
        let mut scenario = Scenario::new(&[
            (0.5, &[(WORKER, CONTEXT)]),
            (1.9, &[(WORKER, CONTEXT + 5 * GIB)]),
            (3.0, &[(WORKER, CONTEXT + 6 * GIB)]),
        ]);
        let figures = scenario.figures();
        assert_eq!(figures.peak, CONTEXT + 6 * GIB);
        assert_eq!((figures.peak_load, figures.after_load), (CONTEXT + 5 * GIB, figures.peak_load));
        assert_eq!(
            (figures.peak_source, figures.outside_allocator_gap_s),
            (PeakSource::Samples, None)
        );
        // a last mark from before the end of the load does not count for the time after it
        scenario.marks = vec![mark(1.0, [GIB, GIB], [BEFORE + CONTEXT, BEFORE + CONTEXT])];
        assert_eq!(scenario.figures().peak_source, PeakSource::Samples);
        scenario.marks.clear();
        // without lists, the growth of the memory in use counts
        scenario.before.processes = None;
        let figures = scenario.figures();
        assert_eq!((figures.peak, figures.per_process), (CONTEXT + 6 * GIB, false));
        assert_eq!(figures.after_load, CONTEXT + 5 * GIB);
    }

    #[test]
    fn a_worker_without_a_load_has_a_peak() {
        let scenario = Scenario::new(&[(0.5, &[(WORKER, CONTEXT)])]);
        let readings = WorkerReadings {
            device: Device::Cuda(0),
            uuid: "GPU-1",
            before: &scenario.before,
            log: &scenario.log,
            after: None,
            worker: WORKER,
            marks: &[],
            baseline: None,
            loaded_s: None,
        };
        let (figures, _) = device_memory(&readings);
        assert_eq!((figures.after_load, figures.after_unload), (0, None));
        assert_eq!((figures.peak_load, figures.peak), (CONTEXT, CONTEXT));
    }

    /// NVML shows process ids of the host, in which the worker is 9001.
    #[test]
    fn one_unknown_process_counts_as_the_worker_and_two_are_ambiguous() {
        let mut scenario =
            Scenario::new(&[(0.5, &[(9001, CONTEXT)]), (1.9, &[(9001, CONTEXT + GIB)])]);
        let figures = scenario.figures();
        assert_eq!((figures.peak, figures.per_process), (CONTEXT + GIB, false));
        assert_eq!(figures.attribution_problem, None);
        scenario.log.processes.push((2.5, processes(&[(77, 2 * GIB), (9001, CONTEXT)])));
        let reason = scenario.figures().attribution_problem.expect("a problem");
        assert!(reason.contains("more than one process started: 77, 9001"), "{reason}");
    }

    #[test]
    fn other_signs_of_another_process_are_reported() {
        let quiet = || Scenario::new(&[(0.5, &[(9001, CONTEXT)])]);
        let mut still_runs = quiet();
        still_runs.after = snapshot(BEFORE + CONTEXT, Some(&[(9001, CONTEXT)]));
        let figures = still_runs.figures();
        assert!(
            figures
                .attribution_problem
                .expect("a problem")
                .contains("9001 started during the run and is still")
        );
        assert_eq!(figures.foreign_processes.first().map(|process| process.pid), Some(9001));

        let mut released = quiet();
        released.before = snapshot(BEFORE + 3 * GIB, None);
        released.after = snapshot(BEFORE, None);
        let reason = released.figures().attribution_problem.expect("a problem");
        assert!(reason.contains("3.22 GB that were in use before"), "{reason}");

        let mut unreported = quiet();
        unreported.log.processes[0].1.push(ProcessUse { pid: 5, used: None });
        unreported.before.processes = Some(vec![ProcessUse { pid: 5, used: None }]);
        let reason = unreported.figures().attribution_problem.expect("a problem");
        assert!(reason.contains("does not report the memory of process 5"), "{reason}");

        // no list shows a process, and 2 GiB come from elsewhere
        let mut unlisted = Scenario::new(&[]);
        let outside = BEFORE + CONTEXT;
        unlisted.marks = vec![mark(1.0, [GIB, GIB], [outside, outside])];
        assert_eq!(unlisted.figures().attribution_problem, None);
        unlisted.marks.push(mark(1.5, [GIB, GIB], [outside + 2 * GIB, outside + 2 * GIB]));
        let reason = unlisted.figures().attribution_problem.expect("a problem");
        assert!(reason.contains("exceeds its baseline by 2.15 GB"), "{reason}");
    }

    #[test]
    fn lasting_memory_without_an_owner_belongs_to_another_process() {
        let lists: &[(f64, &[(u32, u64)])] = &[(0.5, &[(WORKER, CONTEXT)])];
        let mut scenario = Scenario::new(lists);
        let at = |i: u32| 1.0 + f64::from(i) * 0.01;
        let with = |more: &dyn Fn(u32) -> u64| -> Vec<(f64, u64)> {
            (0..200).map(|i| (at(i), BEFORE + CONTEXT + more(i))).collect()
        };
        scenario.log.used = with(&|_| 100 * MIB);
        assert_eq!(scenario.figures().attribution_problem, None, "memory of the driver");
        scenario.log.used = with(&|i| if i == 50 { 3 * GIB } else { 0 });
        assert_eq!(scenario.figures().attribution_problem, None, "a spike between two lists");
        scenario.log.used = with(&|i| if i < 50 { 0 } else { 2 * GIB });
        let reason = scenario.figures().attribution_problem.expect("a problem");
        assert!(reason.contains("no visible process owns 2.15 GB"), "{reason}");
        scenario.log.processes.push((1.5, Vec::new()));
        assert_eq!(
            scenario.figures().attribution_problem,
            None,
            "the memory of an ended worker is not free immediately"
        );
    }

    #[test]
    fn a_late_list_does_not_reduce_the_memory_of_the_worker() {
        // the 2 GiB of the other process are in the mark at 1.0 s, and in a list only 30 ms later
        let mut scenario = Scenario::new(&[
            (0.5, &[(WORKER, CONTEXT)]),
            (1.03, &[(77, 2 * GIB), (WORKER, CONTEXT)]),
        ]);
        let outside = BEFORE + CONTEXT + 2 * GIB;
        scenario.marks = vec![mark(1.0, [GIB, GIB], [outside, outside])];
        assert_eq!(scenario.figures().peak, CONTEXT + GIB);
    }
    #[test]
    fn a_value_holds_until_the_next_one() {
        let points = [(1.0, 10), (2.0, 5), (3.0, 7)];
        for (from, to, expected) in [
            (0.0, 0.5, None),
            (0.0, 1.0, Some(10)),
            (1.0, 1.0, Some(10)),
            (1.5, 1.9, Some(10)),
            (1.5, 2.0, Some(10)),
            (2.0, 2.0, Some(5)),
            (2.0, 2.9, Some(5)),
            (2.5, 3.0, Some(7)),
            (3.0, 9.0, Some(7)),
            (9.0, 9.0, Some(7)),
            (0.0, 9.0, Some(10)),
        ] {
            assert_eq!(highest(&points, from, to), expected, "{from} to {to}");
        }
        assert_eq!(highest::<u64>(&[], 0.0, 9.0), None);
    }

    #[test]
    fn the_memory_of_processes_is_found_by_their_ids() {
        let mut list = processes(&[(1, 10), (2, 20), (3, u64::MAX)]);
        list.push(ProcessUse { pid: 4, used: None });
        assert_eq!(sum_of(&list, &|pid| pid < 3), 30);
        assert_eq!(sum_of(&list, &|pid| pid == 4), 0);
        assert_eq!(sum_of(&list, &|_| true), u64::MAX);
        assert_eq!(sum_of(&list, &|_| false), 0);
        assert_eq!([1, 2, 4, 5].map(|pid| use_of(&list, pid)), [Some(10), Some(20), None, None]);
        assert_eq!((signed(7), signed(u64::MAX)), (7, i64::MAX));
    }

    #[test]
    fn memory_is_released_up_to_the_tolerance() {
        let others: &[(u32, u64)] = &[(77, 3 * GIB)];
        let worker: &[(u32, u64)] = &[(WORKER, CONTEXT)];
        let none: &[(u32, u64)] = &[];
        let tolerance = UNLOAD_TOLERANCE;
        for (before, now, released) in [
            ((BEFORE, Some(none)), (BEFORE, Some(none)), true),
            ((BEFORE, Some(none)), (BEFORE + tolerance, Some(none)), true),
            ((BEFORE, Some(none)), (BEFORE + tolerance + 1, Some(none)), false),
            ((BEFORE, Some(none)), (0, Some(none)), true),
            // a process that started in the meantime is not the worker
            ((BEFORE, Some(none)), (BEFORE + 3 * GIB + tolerance, Some(others)), true),
            ((BEFORE, Some(none)), (BEFORE + 3 * GIB + tolerance + 1, Some(others)), false),
            // a process that ended hides no memory of the worker
            ((BEFORE + 3 * GIB, Some(others)), (BEFORE + tolerance, Some(none)), true),
            ((BEFORE + 3 * GIB, Some(others)), (BEFORE + tolerance + 1, Some(none)), false),
            // the memory of the worker is not that of another process
            ((BEFORE, Some(none)), (BEFORE + CONTEXT, Some(worker)), false),
            // without lists, all memory counts
            ((BEFORE, None), (BEFORE + 3 * GIB, Some(others)), false),
            ((BEFORE, Some(none)), (BEFORE + 3 * GIB, None), false),
            ((BEFORE, None), (BEFORE + tolerance, None), true),
        ] {
            let mut scenario = Scenario::new(&[]);
            scenario.before = snapshot(before.0, before.1);
            let now = snapshot(now.0, now.1);
            assert_eq!(scenario.readings().is_released(&now), released, "{before:?} {now:?}");
        }
        let mut scenario = Scenario::new(&[(0.5, worker)]);
        scenario.after = snapshot(BEFORE + CONTEXT, Some(worker));
        assert_eq!(scenario.figures().after_unload, Some(BEFORE + CONTEXT), "still in use");
    }

    #[test]
    fn marks_before_and_after_the_load_are_needed_for_an_exact_peak() {
        let (marks, samples) = (PeakSource::HighWaterMark, PeakSource::Samples);
        for (times, loaded_s, source) in [
            (&[][..], Some(2.0), samples),
            (&[][..], None, samples),
            (&[1.0], Some(2.0), samples),
            (&[2.0], Some(2.0), samples),
            (&[1.0, 2.0], Some(2.0), samples),
            (&[1.0, 2.1], Some(2.0), marks),
            (&[2.0, 2.1], Some(2.0), marks),
            (&[2.1], Some(2.0), samples),
            (&[2.1, 3.0], Some(2.0), samples),
            (&[1.0], None, marks),
        ] {
            let mut scenario = Scenario::new(&[]);
            scenario.marks = times.iter().map(|t_s| mark(*t_s, [0, 0], [0, 0])).collect();
            let readings = WorkerReadings { loaded_s, ..scenario.readings() };
            assert_eq!(device_memory(&readings).0.peak_source, source, "{times:?} {loaded_s:?}");
        }
    }

    #[test]
    fn readings_at_the_end_of_the_load_belong_to_the_load() {
        let at = |gib| CONTEXT + gib * GIB;
        let mut scenario = Scenario::new(&[
            (0.5, &[(WORKER, at(0))]),
            (2.0, &[(WORKER, at(5))]),
            (2.04, &[(WORKER, at(6))]),
            (2.2, &[(WORKER, at(9))]),
        ]);
        scenario.log.longest_gap_s = 0.25;
        let figures = scenario.figures();
        assert_eq!((figures.peak_load, figures.peak), (at(5), at(9)));
        assert_eq!(figures.after_load, at(6), "the next list shows the complete memory");
        assert_eq!((figures.samples, figures.longest_gap_s), (4, Finite::new(0.25)));
        let outside = [BEFORE + CONTEXT; 2];
        scenario.marks = vec![
            mark(1.0, [GIB, GIB], outside),
            mark(2.0, [4 * GIB, 6 * GIB], outside),
            mark(2.1, [3 * GIB, 12 * GIB], outside),
        ];
        let figures = scenario.figures();
        assert_eq!((figures.peak_load, figures.peak), (at(6), at(12)));
        assert_eq!(figures.after_load, at(4));
        scenario.marks[1] = mark(2.0, [4 * GIB, 6 * GIB], [BEFORE + CONTEXT + GIB; 2]);
        assert_eq!(scenario.figures().peak_load, at(7), "outside of the allocator");
        // a mark can report more in use than its peak
        scenario.marks.push(mark(3.0, [20 * GIB, 12 * GIB], outside));
        assert_eq!(scenario.figures().peak, at(21));
    }

    #[test]
    fn the_memory_of_an_ended_process_is_subtracted_for_the_delay_of_a_list() {
        let mut scenario = Scenario::new(&[
            (0.5, &[(77, 2 * GIB), (WORKER, CONTEXT)]),
            (1.0, &[(WORKER, CONTEXT)]),
        ]);
        let outside = [BEFORE + CONTEXT + 2 * GIB; 2];
        let marks = [0.9, 1.01, 1.04].map(|t_s| mark(t_s, [GIB, GIB], outside));
        scenario.marks = marks.to_vec();
        assert_eq!(scenario.figures().peak, CONTEXT + GIB, "not yet free");
        scenario.marks.push(mark(1.2, [GIB, GIB], outside));
        assert_eq!(scenario.figures().peak, CONTEXT + GIB, "between two marks");
        scenario.marks.push(mark(1.3, [GIB, GIB], outside));
        assert_eq!(scenario.figures().peak, CONTEXT + 3 * GIB, "memory of the worker");
    }

    #[test]
    fn memory_without_an_owner_counts_above_its_limits() {
        let limit = MAX_UNATTRIBUTED_BYTES;
        for (points, reported) in [
            (&[(1.0, limit), (9.0, limit)][..], None),
            (&[(1.0, limit + 1), (9.0, limit + 1)], Some("537 MB")),
            (&[(1.0, GIB), (1.5, GIB)], Some("1.07 GB")),
            (&[(1.0, GIB), (1.49, GIB)], None),
            // the smallest amount in the time
            (&[(1.0, 3 * GIB), (1.25, 2 * GIB), (1.5, 4 * GIB)], Some("2.15 GB")),
            (&[(1.0, 3 * GIB), (1.25, 4 * GIB), (1.5, 2 * GIB)], Some("2.15 GB")),
            // the time starts again after the memory was free
            (&[(1.0, GIB), (1.25, 0), (1.5, GIB), (1.75, GIB)], None),
            (&[(1.0, GIB), (1.25, 0), (1.5, 2 * GIB), (2.0, 2 * GIB)], Some("2.15 GB")),
        ] {
            let mut scenario = Scenario::new(&[(0.5, &[(WORKER, CONTEXT)])]);
            scenario.log.used =
                points.iter().map(|(t_s, more)| (*t_s, BEFORE + CONTEXT + more)).collect();
            let expected = reported
                .map(|bytes| format!("no visible process owns {bytes} of the memory in use"));
            assert_eq!(scenario.figures().attribution_problem, expected, "{points:?}");
        }
    }

    #[test]
    fn a_late_list_gives_memory_its_owner() {
        let at = |gib| CONTEXT + gib * GIB;
        let rising: &[(f64, &[(u32, u64)])] =
            &[(0.5, &[(WORKER, at(0))]), (1.04, &[(WORKER, at(2))]), (1.54, &[(WORKER, at(4))])];
        let mut scenario = Scenario::new(rising);
        scenario.log.used = vec![(1.0, BEFORE + at(2)), (1.5, BEFORE + at(4))];
        assert_eq!(scenario.figures().attribution_problem, None);
        let falling: &[(f64, &[(u32, u64)])] = &[
            (0.5, &[(WORKER, at(2))]),
            (0.98, &[(WORKER, at(0))]),
            (1.2, &[(WORKER, at(2))]),
            (1.48, &[(WORKER, at(0))]),
        ];
        let mut scenario = Scenario::new(falling);
        scenario.log.used = vec![(1.0, BEFORE + at(2)), (1.5, BEFORE + at(2))];
        assert_eq!(scenario.figures().attribution_problem, None);
    }

    #[test]
    fn memory_after_the_end_of_a_listed_worker_is_not_judged() {
        let mut scenario = Scenario::new(&[(0.5, &[]), (0.6, &[(WORKER, CONTEXT)]), (1.0, &[])]);
        let used = |points: &[f64]| points.iter().map(|t_s| (*t_s, BEFORE + 3 * GIB)).collect();
        scenario.log.used = used(&[1.0, 1.5, 9.0]);
        assert_eq!(scenario.figures().attribution_problem, None);
        scenario.log.used = used(&[0.5, 1.0]);
        assert_eq!(scenario.figures().attribution_problem, None, "at the time of its end");
        // before the first list with the worker, memory is judged
        scenario.log.used = used(&[0.2, 0.9, 1.5]);
        let reason = scenario.figures().attribution_problem;
        assert!(reason.is_some_and(|reason| reason.contains("no visible process owns")));
    }

    #[test]
    fn the_signs_of_another_process_have_limits() {
        let unlisted = |before: u64, after: u64| {
            let mut scenario = Scenario::new(&[]);
            scenario.before = snapshot(before, None);
            scenario.after = snapshot(after, None);
            scenario
        };
        let is_problem = |scenario: &Scenario| scenario.figures().attribution_problem.is_some();
        assert!(!is_problem(&unlisted(GIB, GIB - UNLOAD_TOLERANCE)));
        assert!(is_problem(&unlisted(GIB, GIB - UNLOAD_TOLERANCE - 1)));
        let with_outside = |outside: u64, baseline| {
            let mut scenario = unlisted(BEFORE, BEFORE);
            scenario.marks = vec![mark(1.0, [GIB, GIB], [BEFORE + outside; 2])];
            scenario.baseline = baseline;
            scenario
        };
        let highest = CONTEXT + MAX_UNATTRIBUTED_BYTES;
        assert!(!is_problem(&with_outside(highest, Some(CONTEXT))));
        assert!(is_problem(&with_outside(highest + 1, Some(CONTEXT))));
        assert!(!is_problem(&with_outside(highest + 1, None)), "the baseline is not known");
    }

    #[test]
    fn the_driver_may_omit_the_memory_of_the_worker() {
        let mut scenario = Scenario::new(&[]);
        scenario.log.used = vec![(1.0, BEFORE + CONTEXT)];
        scenario.log.processes = vec![(0.5, vec![ProcessUse { pid: WORKER, used: None }])];
        let figures = scenario.figures();
        assert_eq!((figures.peak, figures.per_process), (CONTEXT, false));
        assert_eq!(figures.attribution_problem, None);
    }

    #[test]
    fn only_processes_that_grew_and_are_not_the_worker_are_foreign() {
        // 5 existed and grew, 6 existed and shrank, 77 started
        let mut scenario =
            Scenario::new(&[(0.5, &[(5, 3 * GIB), (6, GIB), (77, GIB), (WORKER, CONTEXT)])]);
        scenario.before = snapshot(BEFORE + 4 * GIB, Some(&[(5, 2 * GIB), (6, 2 * GIB)]));
        scenario.log.names = BTreeMap::from([(5, "five".into()), (77, "new".into())]);
        let figures = scenario.figures();
        let foreign =
            |pid, name: &str, bytes| ForeignProcess { pid, name: Some(name.into()), bytes };
        assert_eq!(figures.foreign_processes, [foreign(5, "five", GIB), foreign(77, "new", GIB)]);
        assert_eq!(figures.foreign_peak, 5 * GIB);
        // without the worker in the lists, 77 may be the worker, and names are of another namespace
        let mut hidden = Scenario::new(&[(0.5, &[(5, 3 * GIB), (77, GIB)])]);
        hidden.before = snapshot(BEFORE + 2 * GIB, Some(&[(5, 2 * GIB)]));
        hidden.log.names = scenario.log.names;
        hidden.after = hidden.before.clone();
        let figures = hidden.figures();
        assert_eq!(figures.attribution_problem, None, "only one process started");
        let unnamed = ForeignProcess { pid: 5, name: None, bytes: GIB };
        assert_eq!(figures.foreign_processes, [unnamed]);
        assert_eq!((figures.foreign_peak, figures.peak), (3 * GIB, GIB));
        // the worker itself, still listed after its end, is not foreign
        let mut still_listed = Scenario::new(&[(0.5, &[(WORKER, CONTEXT)])]);
        still_listed.after = snapshot(BEFORE + CONTEXT, Some(&[(WORKER, CONTEXT)]));
        assert_eq!(still_listed.figures().foreign_processes, []);
    }
}

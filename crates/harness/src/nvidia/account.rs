//! What a worker took of one GPU: the arithmetic from readings to figures. Pure.
//!
//! No single source shows the use of a worker completely and exactly, so two views are combined.
//!
//! *From inside* the worker tells marks: what its allocator (the pool) has reserved, the most that
//! it ever reserved, and what is in use outside of it, which is everything else on the GPU:
//!
//! ```text
//! outside(t) = total - free(t) - reserved(t)
//!            = what the worker takes outside its pool(t) + others(t)
//! ```
//!
//! *From outside* NVML tells what everybody uses, and, where it can, what each process uses. With
//! `before`, everybody's use just before the spawn, and `growth(t)`, by how much the processes that
//! are not the worker use more (or less) than they did then:
//!
//! ```text
//! others(t)       = before + growth(t)
//! outside_worker  = the highest outside - others, over all stretches between two marks
//! peak            = reserved_peak + outside_worker, and not less than what NVML saw of the worker
//! ```
//!
//! `reserved_peak` is exact. A mark holds the highest `outside` of all time up to it without saying
//! when, so it is taken for the stretch since the mark before where it has risen, and the largest
//! growth around that stretch is subtracted from it. Around: a list of processes may come late by
//! as long as it takes to have one. The sum can exceed the true peak where the two parts had theirs
//! at different moments; it never falls short of what was sampled.
//!
//! Without marks, or with none before or none after the load, the peak counts as the highest of
//! NVML's samples.
//!
//! In a container NVML's process ids may be the host's, and then no process is recognized as the worker. Its use is
//! then what everybody's has grown by, less the growth of processes that were there before. One
//! newcomer is taken for the worker. A second one, or other signs that another process took or gave
//! back memory, leave figures that hold more than the worker's, which `mixed` says.

use super::probe::Log;
use super::readings::{ProcessUse, Snapshot};
use crate::measurement::{DeviceMemory, ForeignProcess, PeakSource, UNLOAD_TOLERANCE};
use modelgate_model::units::format_bytes;
use modelgate_protocol::{Device, Finite, PoolMemory};
use std::collections::{BTreeMap, BTreeSet};

/// Use that no process is seen to have counts as another's from here on: a worker whose process is
/// not seen takes more than its baseline outside its allocator too (kernels and workspaces that are
/// loaded when they are first used), and the driver counts not quite all to processes.
const UNEXPLAINED: u64 = 512 << 20;
/// Where every process is seen, it counts if it lasts so many seconds: a worker's own short spike is
/// between two lists.
const LASTING: f64 = 0.5;
/// The least time, in seconds, by which a change of use and the list that shows it may be apart.
const MIN_LAG: f64 = 0.05;

/// What a worker said of its memory, and when, in seconds from spawn.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) t_s: f64,
    pub(crate) memory: PoolMemory,
}

/// All that was seen of one GPU over the life of one worker.
pub(crate) struct Life<'a> {
    /// The device, by the name that the manifest gives it.
    pub(crate) device: Device,
    /// The GPU's UUID.
    pub(crate) uuid: &'a str,
    /// Just before the spawn.
    pub(crate) before: &'a Snapshot,
    /// Meanwhile.
    pub(crate) log: &'a Log,
    /// After the worker was reaped.
    pub(crate) after: Option<&'a Snapshot>,
    /// The worker's process id.
    pub(crate) worker: u32,
    /// What the worker said, in the order of time.
    pub(crate) marks: &'a [Mark],
    /// What it said to take before its first weight.
    pub(crate) baseline: Option<u64>,
    /// When its last tensor was resident.
    pub(crate) loaded_s: Option<f64>,
}

/// The figures of one GPU, and the worker's use over time as it was seen from outside.
pub(crate) fn device_memory(life: &Life<'_>) -> (DeviceMemory, Vec<(f64, u64)>) {
    let account = Account::of(life);
    let loaded = life.loaded_s.unwrap_or(f64::INFINITY);
    let figures = DeviceMemory {
        device: life.device,
        uuid: life.uuid.to_owned(),
        before: life.before.memory.used,
        after_load: life.loaded_s.map_or(0, |at| account.use_at(at)),
        peak_load: account.peak(loaded),
        peak: account.peak(f64::INFINITY),
        peak_source: life.source(),
        after_unload: life.after.map(|after| life.unloaded(after)),
        predicted_peak: None,
        foreign_peak: account.foreign_peak(),
        foreign: account.foreign(),
        per_process: account.per_process,
        mixed: account.mixed(),
        outside_gap_s: life.marks.last().map(|mark| mark.memory.longest_gap_s),
        samples: life.log.used.len() as u64,
        longest_gap_s: Finite::new(life.log.longest_gap_s),
    };
    (figures, account.worker)
}

impl<'a> Life<'a> {
    /// How the peaks are had: a worker that says nothing before or nothing after its load leaves it
    /// to the samples.
    fn source(&self) -> PeakSource {
        let loaded = self.loaded_s.unwrap_or(f64::INFINITY);
        match (self.marks.first(), self.marks.last()) {
            (Some(first), Some(last)) if first.t_s <= loaded => match self.loaded_s {
                Some(loaded) if last.t_s <= loaded => PeakSource::Samples,
                _ => PeakSource::Pool,
            },
            _ => PeakSource::Samples,
        }
    }

    /// The lists of processes; `None` if the driver did not tell them from the begin.
    fn lists(&self) -> impl Iterator<Item = (f64, &'a [ProcessUse])> + use<'a> {
        let known = self.before.processes.is_some();
        let lists = self.log.processes.iter().map(|(t_s, list)| (*t_s, list.as_slice()));
        lists.filter(move |_| known)
    }

    /// The processes before the spawn.
    fn earlier(&self) -> &'a [ProcessUse] {
        self.before.processes.as_deref().unwrap_or_default()
    }

    /// The processes after the worker's end.
    fn later(&self) -> &'a [ProcessUse] {
        self.after.and_then(|after| after.processes.as_deref()).unwrap_or_default()
    }

    /// By how much foreign processes use more in `list` than they did before.
    fn growth(&self, list: &[ProcessUse], is_foreign: impl Fn(u32) -> bool) -> i64 {
        signed(sum_of(list, &is_foreign)) - signed(sum_of(self.earlier(), &is_foreign))
    }

    /// By how much others use more after the worker's end: then no process is the worker.
    fn left(&self, after: &Snapshot) -> i64 {
        match (&self.before.processes, &after.processes) {
            (Some(_), Some(list)) => self.growth(list, |pid| pid != self.worker),
            _ => 0,
        }
    }

    /// Use after the worker's end, less what others took meanwhile.
    fn unloaded(&self, after: &Snapshot) -> u64 {
        after.memory.used.saturating_add_signed(-self.left(after))
    }

    /// Whether the GPU has back what the worker had.
    pub(crate) fn is_back(&self, now: &Snapshot) -> bool {
        self.unloaded(now) <= self.before.memory.used.saturating_add(UNLOAD_TOLERANCE)
    }
}

/// A life in the making of its figures.
struct Account<'a> {
    life: &'a Life<'a>,
    /// Whether the driver tells what the worker takes.
    per_process: bool,
    /// By how much others use more than before, from each of these times on.
    growth: Vec<(f64, i64)>,
    /// The worker's use as it was seen from outside.
    worker: Vec<(f64, u64)>,
    /// How late a list may be, in seconds.
    lag: f64,
}

impl<'a> Account<'a> {
    fn of(life: &'a Life<'a>) -> Account<'a> {
        let per_process = life.lists().any(|(_, list)| use_of(list, life.worker).is_some());
        let lag = life.log.processes_gap_s.max(MIN_LAG);
        let mut account =
            Account { life, per_process, growth: Vec::new(), worker: Vec::new(), lag };
        let growth = |list| life.growth(list, |pid| account.is_foreign(pid));
        let mut changes = vec![(0.0, 0)];
        changes.extend(life.lists().map(|(t_s, list)| (t_s, growth(list))));
        changes.dedup_by_key(|(_, growth)| *growth);
        account.growth = changes;
        account.worker = if per_process {
            let used = |list| use_of(list, life.worker).unwrap_or(0);
            life.lists().map(|(t_s, list)| (t_s, used(list))).collect()
        } else {
            let own = |(t_s, used): &(f64, u64)| (*t_s, account.without_others(*used, *t_s, *t_s));
            life.log.used.iter().map(own).collect()
        };
        account
    }

    /// The worker's highest use until `end`.
    fn peak(&self, end: f64) -> u64 {
        let marks = self.life.marks.iter().take_while(|mark| mark.t_s <= end);
        let reserved = marks.map(|mark| mark.memory.reserved_peak.max(mark.memory.reserved)).max();
        let seen = self.worker.iter().take_while(|(t_s, _)| *t_s <= end).map(|(_, used)| *used);
        let told = reserved.unwrap_or(0).saturating_add(self.outside(end));
        told.max(seen.max().unwrap_or(0))
    }

    /// The most that the worker took outside its allocator until `end`.
    fn outside(&self, end: f64) -> u64 {
        let (mut since, mut highest) = (0.0, 0);
        let mut most = 0;
        for Mark { t_s, memory } in self.life.marks.iter().take_while(|mark| mark.t_s <= end) {
            let risen = memory.outside_peak > highest;
            let outside = if risen { memory.outside_peak } else { memory.outside };
            most = most.max(self.without_others(outside, since, *t_s));
            highest = highest.max(memory.outside_peak);
            since = *t_s;
        }
        most
    }

    /// `used` by everybody at some time of a stretch, without what others used then.
    fn without_others(&self, used: u64, from: f64, to: f64) -> u64 {
        let growth = highest(&self.growth, from - self.lag, to + self.lag).unwrap_or(0);
        let others = signed(self.life.before.memory.used).saturating_add(growth);
        u64::try_from(signed(used).saturating_sub(others)).unwrap_or(0)
    }

    /// The worker's use when its last tensor was resident, at `at`.
    fn use_at(&self, at: f64) -> u64 {
        let mark = self.life.marks.iter().take_while(|mark| mark.t_s <= at).last();
        if let Some(Mark { t_s, memory }) = mark {
            let outside = self.without_others(memory.outside, *t_s, *t_s);
            return memory.reserved.saturating_add(outside);
        }
        // the list that comes next may be the first to show it all
        let at = if self.per_process { at + self.lag } else { at };
        highest(&self.worker, at, at).unwrap_or(0)
    }

    /// Whether `pid` is certainly not the worker.
    fn is_foreign(&self, pid: u32) -> bool {
        let was_there = || self.life.earlier().iter().any(|process| process.pid == pid);
        pid != self.life.worker && (self.per_process || was_there())
    }

    /// Processes that came while the worker lived and might be the worker.
    fn newcomers(&self) -> BTreeSet<u32> {
        let lists = self.life.lists().flat_map(|(_, list)| list);
        let pids = lists.map(|process| process.pid);
        pids.filter(|pid| *pid != self.life.worker && !self.is_foreign(*pid)).collect()
    }

    /// The most that foreign processes used together.
    fn foreign_peak(&self) -> u64 {
        let lists = self.life.lists().map(|(_, list)| list).chain([self.life.earlier()]);
        lists.map(|list| sum_of(list, &|pid| self.is_foreign(pid))).max().unwrap_or(0)
    }

    /// The foreign processes that grew.
    fn foreign(&self) -> Vec<ForeignProcess> {
        let life = self.life;
        let stayed = |pid: u32| pid != life.worker && life.later().iter().any(|one| one.pid == pid);
        let mut most: BTreeMap<u32, u64> = BTreeMap::new();
        for ProcessUse { pid, used } in life.lists().flat_map(|(_, list)| list) {
            let entry = most.entry(*pid).or_default();
            *entry = (*entry).max(used.unwrap_or(0));
        }
        let grown = |(pid, most): (u32, u64)| {
            let bytes = most.saturating_sub(use_of(life.earlier(), pid).unwrap_or(0));
            // a pid that is another namespace's has another process's name here
            let name = life.log.names.get(&pid).filter(|_| self.per_process).cloned();
            let counts = bytes > 0 && (self.is_foreign(pid) || stayed(pid));
            counts.then_some(ForeignProcess { pid, name, bytes })
        };
        most.into_iter().filter_map(grown).collect()
    }

    /// Why the figures may hold what other processes took.
    fn mixed(&self) -> Option<String> {
        let silent = |process: &&ProcessUse| process.used.is_none() && self.is_foreign(process.pid);
        if let Some(process) = self.life.lists().flat_map(|(_, list)| list).find(silent) {
            return Some(format!(
                "the driver does not report the memory of process {}",
                process.pid
            ));
        }
        if self.per_process { self.unowned() } else { self.unseen() }
    }

    /// The same where every process is seen: memory that none of them owns, for long. A process that
    /// ends may leave the list before its memory is free.
    fn unowned(&self) -> Option<String> {
        let is_listed = |list| use_of(list, self.life.worker).is_some();
        let mut gone = self.life.lists().skip_while(|(_, list)| !is_listed(list));
        let end = gone.find(|(_, list)| !is_listed(list)).map_or(f64::INFINITY, |(t_s, _)| t_s);
        let (mut since, mut least) = (None, u64::MAX);
        for (t_s, used) in self.life.log.used.iter().take_while(|(t_s, _)| *t_s < end) {
            let all = self.without_others(*used, *t_s, *t_s);
            let worker = highest(&self.worker, t_s - self.lag, t_s + self.lag).unwrap_or(0);
            let unowned = all.saturating_sub(worker);
            if unowned <= UNEXPLAINED {
                (since, least) = (None, u64::MAX);
                continue;
            }
            least = least.min(unowned);
            if t_s - *since.get_or_insert(*t_s) >= LASTING {
                let bytes = format_bytes(least);
                return Some(format!("{bytes} are in use that belong to no visible process"));
            }
        }
        None
    }

    /// The same where the worker is not seen.
    fn unseen(&self) -> Option<String> {
        let unseen = "the driver does not show which process is the worker";
        let life = self.life;
        let newcomers = self.newcomers();
        if newcomers.len() > 1 {
            let pids: Vec<String> = newcomers.iter().map(u32::to_string).collect();
            return Some(format!("{unseen}, and more than one came: {}", pids.join(", ")));
        }
        if let Some(process) = life.later().iter().find(|one| newcomers.contains(&one.pid)) {
            return Some(format!(
                "process {} started during the run and is still running",
                process.pid
            ));
        }
        if let Some(after) = life.after {
            let gone = life.before.memory.used.saturating_sub(life.unloaded(after));
            if gone > UNLOAD_TOLERANCE {
                return Some(format!(
                    "{unseen}, and {} that was in use before is not in use after it",
                    format_bytes(gone)
                ));
            }
        }
        let outside = self.outside(f64::INFINITY);
        match life.baseline {
            Some(baseline) if outside > baseline.saturating_add(UNEXPLAINED) => Some(format!(
                "{unseen}, and {} more than the worker's baseline was taken outside its allocator",
                format_bytes(outside - baseline)
            )),
            _ => None,
        }
    }
}

/// The highest value from `from` to `to` of a quantity that holds each value until the next; `None`
/// if it has none by then.
fn highest<T: Copy + Ord>(points: &[(f64, T)], from: f64, to: f64) -> Option<T> {
    let begin = points.partition_point(|(t_s, _)| *t_s <= from).saturating_sub(1);
    let points = points[begin..].iter().take_while(|(t_s, _)| *t_s <= to);
    points.map(|(_, value)| *value).max()
}

/// What the processes that `counts` names use together.
fn sum_of(list: &[ProcessUse], counts: &impl Fn(u32) -> bool) -> u64 {
    let counted = list.iter().filter(|process| counts(process.pid));
    counted.map(|process| process.used.unwrap_or(0)).fold(0, u64::saturating_add)
}

/// What process `pid` uses; `None` if the list does not say.
fn use_of(list: &[ProcessUse], pid: u32) -> Option<u64> {
    list.iter().find(|process| process.pid == pid)?.used
}

/// No GPU has memory beyond 63 bits.
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
    /// What the worker's context takes.
    const CONTEXT: u64 = 500 * MIB;
    /// What others have before.
    const BEFORE: u64 = 40 * MIB;

    fn snapshot(used: u64, list: Option<&[(u32, u64)]>) -> Snapshot {
        Snapshot { memory: MemoryReading { used, total: 80 * GIB }, processes: list.map(processes) }
    }

    fn processes(list: &[(u32, u64)]) -> Vec<ProcessUse> {
        list.iter().map(|(pid, used)| ProcessUse { pid: *pid, used: Some(*used) }).collect()
    }

    fn mark(t_s: f64, reserved: [u64; 2], outside: [u64; 2]) -> Mark {
        let memory = PoolMemory {
            device: Device::Cuda(0),
            uuid: "GPU-1".into(),
            reserved: reserved[0],
            reserved_peak: reserved[1],
            outside: outside[0],
            outside_peak: outside[1],
            longest_gap_s: Finite::new(0.003).expect("finite"),
        };
        Mark { t_s, memory }
    }

    /// A worker's life, loaded after two seconds.
    struct Story {
        before: Snapshot,
        log: Log,
        after: Snapshot,
        marks: Vec<Mark>,
        baseline: Option<u64>,
    }

    impl Story {
        /// Lists of processes at these seconds; the device's use is their sum and what was before.
        fn new(lists: &[(f64, &[(u32, u64)])]) -> Story {
            let sum = |list: &[(u32, u64)]| BEFORE + list.iter().map(|(_, used)| used).sum::<u64>();
            let used = lists.iter().map(|(t_s, list)| (*t_s, sum(list))).collect();
            let lists = lists.iter().map(|(t_s, list)| (*t_s, processes(list))).collect();
            let log = Log { used, processes: lists, processes_gap_s: 0.01, ..Log::default() };
            Story {
                before: snapshot(BEFORE, Some(&[])),
                log,
                after: snapshot(BEFORE, Some(&[])),
                marks: Vec::new(),
                baseline: Some(CONTEXT),
            }
        }

        fn figures(&self) -> DeviceMemory {
            device_memory(&Life {
                device: Device::Cuda(0),
                uuid: "GPU-1",
                before: &self.before,
                log: &self.log,
                after: Some(&self.after),
                worker: WORKER,
                marks: &self.marks,
                baseline: self.baseline,
                loaded_s: Some(2.0),
            })
            .0
        }
    }

    #[test]
    fn a_quiet_load_is_pool_and_context() {
        let mut story =
            Story::new(&[(0.5, &[(WORKER, CONTEXT)]), (1.9, &[(WORKER, CONTEXT + 5 * GIB)])]);
        let outside = BEFORE + CONTEXT;
        story.marks = vec![
            mark(0.6, [0, 0], [outside, outside]),
            mark(1.95, [5 * GIB, 6 * GIB], [outside, outside]),
            mark(4.0, [5 * GIB, 7 * GIB], [outside, outside + 10 * MIB]),
        ];
        let figures = story.figures();
        assert_eq!(figures.before, BEFORE);
        assert_eq!(figures.after_load, CONTEXT + 5 * GIB);
        assert_eq!(figures.peak_load, CONTEXT + 6 * GIB);
        assert_eq!(figures.peak, CONTEXT + 7 * GIB + 10 * MIB);
        assert_eq!(figures.peak_source, PeakSource::Pool);
        assert_eq!(figures.after_unload, Some(BEFORE));
        assert_eq!((figures.foreign_peak, &figures.foreign[..], figures.mixed), (0, &[][..], None));
        assert!(figures.per_process && figures.outside_gap_s.is_some());
    }

    #[test]
    fn two_gib_of_another_process_during_the_load_are_flagged_and_not_counted() {
        let mut story = Story::new(&[
            (0.5, &[(WORKER, CONTEXT)]),
            (1.0, &[(77, 2 * GIB), (WORKER, CONTEXT + GIB)]),
            (1.9, &[(77, 2 * GIB), (WORKER, CONTEXT + 5 * GIB)]),
        ]);
        story.log.names.insert(77, "python".into());
        let (alone, both) = (BEFORE + CONTEXT, BEFORE + CONTEXT + 2 * GIB);
        story.marks = vec![
            mark(0.6, [0, 0], [alone, alone]),
            mark(1.95, [5 * GIB, 6 * GIB], [both, both]),
            mark(4.0, [5 * GIB, 6 * GIB], [both, both]),
        ];
        story.after = snapshot(BEFORE + 2 * GIB, Some(&[(77, 2 * GIB)]));
        let figures = story.figures();
        assert_eq!(figures.peak, CONTEXT + 6 * GIB);
        assert_eq!(figures.after_load, CONTEXT + 5 * GIB);
        assert_eq!(figures.after_unload, Some(BEFORE), "what the other keeps is not the worker's");
        assert_eq!(figures.foreign_peak, 2 * GIB);
        let foreign = ForeignProcess { pid: 77, name: Some("python".into()), bytes: 2 * GIB };
        assert_eq!(figures.foreign, [foreign]);
        assert_eq!(figures.mixed, None);
    }

    #[test]
    fn a_spike_through_the_pool_shows_exactly() {
        let mut story = Story::new(&[(0.5, &[(WORKER, CONTEXT + 5 * GIB)])]);
        let outside = BEFORE + CONTEXT;
        story.marks = vec![
            mark(1.0, [5 * GIB, 5 * GIB], [outside, outside]),
            mark(3.0, [5 * GIB, 8 * GIB], [outside, outside]),
        ];
        let figures = story.figures();
        assert_eq!(figures.peak, CONTEXT + 8 * GIB, "no sample saw it");
        assert_eq!(figures.peak_source, PeakSource::Pool);
        assert_eq!(figures.peak_load, CONTEXT + 5 * GIB, "and it came after the load");
    }

    #[test]
    fn a_spike_outside_the_pool_shows_where_the_worker_sampled_it() {
        let mut story = Story::new(&[(0.5, &[(WORKER, CONTEXT + 5 * GIB)])]);
        let outside = BEFORE + CONTEXT;
        story.marks = vec![
            mark(1.0, [5 * GIB, 5 * GIB], [outside, outside + 3 * GIB]),
            mark(3.0, [5 * GIB, 5 * GIB], [outside, outside + 3 * GIB]),
        ];
        assert_eq!(story.figures().peak, CONTEXT + 8 * GIB);
        // another process comes later: the spike was before that
        story.log.processes.push((2.5, processes(&[(77, 2 * GIB), (WORKER, CONTEXT + 5 * GIB)])));
        assert_eq!(story.figures().peak, CONTEXT + 8 * GIB);
    }

    #[test]
    fn what_nvml_saw_of_the_worker_is_the_least() {
        let mut story = Story::new(&[(0.5, &[(WORKER, CONTEXT + 9 * GIB)])]);
        let outside = BEFORE + CONTEXT;
        story.marks = vec![mark(3.0, [5 * GIB, 5 * GIB], [outside, outside])];
        assert_eq!(story.figures().peak, CONTEXT + 9 * GIB);
    }

    #[test]
    fn memory_that_others_give_back_is_not_taken_off_the_worker_s() {
        let mut story = Story::new(&[
            (0.5, &[(77, 3 * GIB), (WORKER, CONTEXT)]),
            (1.0, &[(WORKER, CONTEXT + GIB)]),
            (1.9, &[(WORKER, CONTEXT + 5 * GIB)]),
        ]);
        story.before = snapshot(BEFORE + 3 * GIB, Some(&[(77, 3 * GIB)]));
        let (both, alone) = (BEFORE + CONTEXT + 3 * GIB, BEFORE + CONTEXT);
        story.marks = vec![
            mark(0.6, [0, 0], [both, both]),
            mark(1.95, [5 * GIB, 5 * GIB], [alone, both]),
            mark(4.0, [5 * GIB, 5 * GIB], [alone, both]),
        ];
        let figures = story.figures();
        assert_eq!(figures.peak, CONTEXT + 5 * GIB);
        assert_eq!(figures.after_load, CONTEXT + 5 * GIB);
        assert_eq!(figures.after_unload, Some(BEFORE + 3 * GIB), "as it was before, without 77");
        assert_eq!((figures.mixed, figures.foreign.len()), (None, 0), "no process took more");
        assert_eq!(figures.foreign_peak, 3 * GIB);
    }

    #[test]
    fn without_marks_samples_say_it() {
        let mut story = Story::new(&[
            (0.5, &[(WORKER, CONTEXT)]),
            (1.9, &[(WORKER, CONTEXT + 5 * GIB)]),
            (3.0, &[(WORKER, CONTEXT + 6 * GIB)]),
        ]);
        let figures = story.figures();
        assert_eq!(figures.peak, CONTEXT + 6 * GIB);
        assert_eq!((figures.peak_load, figures.after_load), (CONTEXT + 5 * GIB, figures.peak_load));
        assert_eq!((figures.peak_source, figures.outside_gap_s), (PeakSource::Samples, None));
        // a last word that came before the load was done says nothing of what came after it
        story.marks = vec![mark(1.0, [GIB, GIB], [BEFORE + CONTEXT, BEFORE + CONTEXT])];
        assert_eq!(story.figures().peak_source, PeakSource::Samples);
        story.marks.clear();
        // no lists at all: the growth of the device's use
        story.before.processes = None;
        let figures = story.figures();
        assert_eq!((figures.peak, figures.per_process), (CONTEXT + 6 * GIB, false));
        assert_eq!(figures.after_load, CONTEXT + 5 * GIB);
    }

    #[test]
    fn a_life_without_a_load_keeps_what_there_was() {
        let story = Story::new(&[(0.5, &[(WORKER, CONTEXT)])]);
        let life = Life {
            device: Device::Cuda(0),
            uuid: "GPU-1",
            before: &story.before,
            log: &story.log,
            after: None,
            worker: WORKER,
            marks: &[],
            baseline: None,
            loaded_s: None,
        };
        let (figures, _) = device_memory(&life);
        assert_eq!((figures.after_load, figures.after_unload), (0, None));
        assert_eq!((figures.peak_load, figures.peak), (CONTEXT, CONTEXT));
    }

    /// NVML shows the host's ids: the worker is 9001 there.
    #[test]
    fn one_stranger_is_taken_for_the_worker_and_two_cannot_be_told_apart() {
        let mut story = Story::new(&[(0.5, &[(9001, CONTEXT)]), (1.9, &[(9001, CONTEXT + GIB)])]);
        let figures = story.figures();
        assert_eq!((figures.peak, figures.per_process), (CONTEXT + GIB, false));
        assert_eq!(figures.mixed, None);
        story.log.processes.push((2.5, processes(&[(77, 2 * GIB), (9001, CONTEXT)])));
        let reason = story.figures().mixed.expect("mixed");
        assert!(reason.contains("more than one came: 77, 9001"), "{reason}");
    }

    #[test]
    fn other_signs_of_another_process_are_told_too() {
        let quiet = || Story::new(&[(0.5, &[(9001, CONTEXT)])]);
        let mut stays = quiet();
        stays.after = snapshot(BEFORE + CONTEXT, Some(&[(9001, CONTEXT)]));
        let figures = stays.figures();
        assert!(figures.mixed.expect("mixed").contains("9001 started during the run and is still"));
        assert_eq!(figures.foreign.first().map(|one| one.pid), Some(9001));

        let mut gave_back = quiet();
        gave_back.before = snapshot(BEFORE + 3 * GIB, None);
        gave_back.after = snapshot(BEFORE, None);
        let reason = gave_back.figures().mixed.expect("mixed");
        assert!(reason.contains("3.22 GB that was in use before"), "{reason}");

        let mut silent = quiet();
        silent.log.processes[0].1.push(ProcessUse { pid: 5, used: None });
        silent.before.processes = Some(vec![ProcessUse { pid: 5, used: None }]);
        let reason = silent.figures().mixed.expect("mixed");
        assert!(reason.contains("does not report the memory of process 5"), "{reason}");

        // no list shows anybody, and 2 GiB come from somewhere
        let mut unseen = Story::new(&[]);
        let outside = BEFORE + CONTEXT;
        unseen.marks = vec![mark(1.0, [GIB, GIB], [outside, outside])];
        assert_eq!(unseen.figures().mixed, None);
        unseen.marks.push(mark(1.5, [GIB, GIB], [outside + 2 * GIB, outside + 2 * GIB]));
        let reason = unseen.figures().mixed.expect("mixed");
        assert!(reason.contains("2.15 GB more than the worker's baseline"), "{reason}");
    }

    #[test]
    fn use_that_no_process_owns_is_another_s_where_it_lasts() {
        let lists: &[(f64, &[(u32, u64)])] = &[(0.5, &[(WORKER, CONTEXT)])];
        let mut story = Story::new(lists);
        let at = |i: u32| 1.0 + f64::from(i) * 0.01;
        let with = |more: &dyn Fn(u32) -> u64| -> Vec<(f64, u64)> {
            (0..200).map(|i| (at(i), BEFORE + CONTEXT + more(i))).collect()
        };
        story.log.used = with(&|_| 100 * MIB);
        assert_eq!(story.figures().mixed, None, "the driver's own");
        story.log.used = with(&|i| if i == 50 { 3 * GIB } else { 0 });
        assert_eq!(story.figures().mixed, None, "a spike between two lists");
        story.log.used = with(&|i| if i < 50 { 0 } else { 2 * GIB });
        let reason = story.figures().mixed.expect("mixed");
        assert!(reason.contains("2.15 GB are in use that belong to no"), "{reason}");
        story.log.processes.push((1.5, Vec::new()));
        assert_eq!(story.figures().mixed, None, "what an ended worker had is not free at once");
    }

    #[test]
    fn a_list_that_comes_late_takes_nothing_of_the_worker_s() {
        // the other's 2 GiB are in the mark of 1.0 s, and in a list only 30 ms later
        let mut story =
            Story::new(&[(0.5, &[(WORKER, CONTEXT)]), (1.03, &[(77, 2 * GIB), (WORKER, CONTEXT)])]);
        let outside = BEFORE + CONTEXT + 2 * GIB;
        story.marks = vec![mark(1.0, [GIB, GIB], [outside, outside])];
        assert_eq!(story.figures().peak, CONTEXT + GIB);
    }
}

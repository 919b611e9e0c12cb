//! One worker, from its start to what is left of it.

use super::channel::Line;
use super::control_group::OutOfMemoryKills;
use super::ending::{self, Ending, Remains};
use super::error::{Cause, SuperviseError};
use super::fold::{self, Fold};
use super::gpus::Gpus;
use super::host_probe::HostProbe;
use super::timeline::{self, Series};
use super::worker_process::Worker;
use crate::measurement::{DeviceMemory, ObservedMemory, Outcome, Supervised, WorkerRecord};
use crate::nvidia::{self, Assigned, Life, Mark, Snapshot};
use crate::reportable::{BoxedReportable, Reportable};
use crate::signal::Interrupt;
use crate::workers::BuiltWorker;
use modelgate_hub::Variables;
use modelgate_protocol::{Event, Finite, PhaseName, Request, Stage};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// How often deadlines, signals and the child's state are looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long a GPU may take to have back what an ended worker had.
const UNLOADING: Duration = Duration::from_secs(3);
/// The same after a signal, which leaves the whole run little time.
const UNLOADING_INTERRUPTED: Duration = Duration::from_millis(500);

/// What ends a worker before it is done.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From spawn.
    pub deadline: Duration,
    /// Without progress.
    pub stall: Duration,
    /// A signal to the harness.
    pub interrupt: Interrupt,
}

/// What looks at the memory of a worker.
struct Probes<'a> {
    host: &'a HostProbe,
    gpus: &'a nvidia::Probe,
}

impl Probes<'_> {
    /// Takes note of an event that arrived `at`. What the measuring of ceilings takes of memory is
    /// not the model's.
    fn note(&self, event: &Event, at: Instant) {
        match event {
            Event::Loaded => self.host.mark_loaded(),
            Event::Phase { name: PhaseName::Ceilings } => {
                self.host.end(at);
                self.gpus.end(at);
            }
            _ => {}
        }
    }
}

/// Is called with each event; an error ends the worker.
pub type Watch<'a> = dyn FnMut(&Event) -> Result<(), BoxedReportable> + 'a;

/// What a worker is started for.
pub struct Job<'a> {
    /// The program.
    pub built: &'a BuiltWorker,
    /// The variables that it inherits.
    pub inherited: &'a Variables,
    /// What it is asked.
    pub request: &'a Request,
    /// The GPUs that it gets.
    pub gpus: &'a Gpus,
    /// What ends it before it is done.
    pub limits: &'a Limits,
}

/// Runs a worker and returns what was seen of it, without a prediction. `watch` is called with each event
/// as it arrives, and may refuse to go on.
pub fn supervise(job: &Job<'_>, watch: &mut Watch<'_>) -> Supervised {
    let Job { built, inherited, request, gpus, limits } = *job;
    let kills = OutOfMemoryKills::now();
    let mut worker = match Worker::spawn(built, inherited, request, &gpus.uuids()) {
        Ok(worker) => worker,
        Err(source) => {
            let program = built.program.clone();
            return not_started(&Cause::NotStarted { program, source }.in_stage(Stage::Start));
        }
    };
    let spawned = worker.spawned();
    let host_probe = HostProbe::start(worker.pid(), spawned);
    let uuids = gpus.uuids().into_iter().map(str::to_owned).collect();
    let gpu_probe = nvidia::Probe::start(Arc::clone(&gpus.readings), uuids, spawned);
    let mut fold = Fold::new(&gpus.assigned, spawned);
    let probes = Probes { host: &host_probe, gpus: &gpu_probe };
    let ending = listen(&mut worker, gpus, limits, &mut fold, &probes, watch);
    let last_event = Instant::now();
    let exit = worker.end(ending.is_forced());
    let reaped = Instant::now();
    let (record, marks) = fold.finish(last_event, reaped);
    let (host, mut series) = host_probe.stop().unzip();
    let logs = gpu_probe.stop();
    let life = WorkerLife { pid: worker.pid(), record: &record, marks: &marks };
    let interrupted = limits.interrupt.signal().is_some();
    let patience = if interrupted { UNLOADING_INTERRUPTED } else { UNLOADING };
    let (devices, of_devices) = account(gpus, &logs, &life, patience);
    series.get_or_insert_default().extend(of_devices);
    let timeline = timeline::timeline(series.unwrap_or_default());
    let output = worker.output();
    let remains = Remains { exit: &exit, output: &output, kills: &kills };
    let (outcome, failure) = ending::conclude(ending, &remains);
    Supervised {
        outcome,
        failure,
        record,
        memory: ObservedMemory { devices, host, timeline },
        prediction: None,
        exit: Some(exit),
        output,
    }
}

fn not_started(error: &SuperviseError) -> Supervised {
    Supervised {
        outcome: Outcome::Failed,
        failure: Some(error.to_failure()),
        record: WorkerRecord::default(),
        memory: ObservedMemory::default(),
        prediction: None,
        exit: None,
        output: String::new(),
    }
}

/// What a worker did until its end.
struct WorkerLife<'a> {
    pid: u32,
    record: &'a WorkerRecord,
    marks: &'a [Mark],
}

/// Returns what the worker took of each GPU, in sum and over time. Waits up to `patience` for a GPU to
/// have back what the worker had.
fn account(
    gpus: &Gpus,
    logs: &[nvidia::Log],
    worker: &WorkerLife<'_>,
    patience: Duration,
) -> (Vec<DeviceMemory>, Vec<Series>) {
    let (mut devices, mut series) = (Vec::new(), Vec::new());
    for ((Assigned { device, gpu }, before), log) in
        gpus.assigned.iter().zip(&gpus.before).zip(logs)
    {
        let marks = worker.marks.iter().filter(|mark| mark.memory.device == *device);
        let marks: Vec<Mark> = marks.cloned().collect();
        let seen = worker.record.devices_seen.iter().find(|seen| seen.device == *device);
        let mut life = Life {
            device: *device,
            uuid: &gpu.uuid,
            before,
            log,
            after: None,
            worker: worker.pid,
            marks: &marks,
            baseline: seen.map(|seen| seen.own_baseline(before.memory.used)),
            loaded_s: worker.record.load_s.map(Finite::get),
        };
        let is_back = |now: &Snapshot| life.is_back(now);
        let after = nvidia::unloaded(&*gpus.readings, &gpu.uuid, patience, is_back);
        life.after = after.as_ref();
        let (figures, worker_use) = nvidia::device_memory(&life);
        devices.push(figures);
        for (what, points) in [("used", log.used.clone()), ("worker", worker_use)] {
            series.push(Series { name: format!("{device}_{what}"), points, is_kept: true });
        }
    }
    (devices, series)
}

/// Takes events in until the worker is done, says that it failed, or has to be ended.
fn listen(
    worker: &mut Worker,
    gpus: &Gpus,
    limits: &Limits,
    fold: &mut Fold<'_>,
    probes: &Probes<'_>,
    watch: &mut Watch<'_>,
) -> Ending {
    let mut last_progress = worker.spawned();
    let mut ended = false;
    loop {
        if let Some(signal) = limits.interrupt.signal() {
            return Ending::Ended(Cause::Interrupted(signal).in_stage(fold.stage()));
        }
        if worker.spawned().elapsed() > limits.deadline {
            return Ending::Ended(Cause::Deadline(limits.deadline).in_stage(fold.stage()));
        }
        match worker.lines().recv_timeout(TICK) {
            Ok(Line::Event(at, event)) => {
                let event = gpus.named(*event);
                probes.note(&event, at);
                if let Err(reason) = watch(&event) {
                    return Ending::Refused(reason);
                }
                match fold.take(event, at) {
                    fold::Step::Advanced => last_progress = at,
                    fold::Step::SameProgress => {}
                    fold::Step::Done => return Ending::Done,
                    fold::Step::Failed(failure) => return Ending::Reported(failure),
                    fold::Step::Refused(cause) => {
                        return Ending::Ended(cause.in_stage(fold.stage()));
                    }
                }
            }
            Ok(Line::Malformed(message)) => {
                return Ending::Ended(Cause::Protocol(message).in_stage(fold.stage()));
            }
            Err(RecvTimeoutError::Disconnected) => return silent(limits, fold.stage()),
            Err(RecvTimeoutError::Timeout) => {
                // a grandchild may hold the channel open after the worker itself is gone; one
                // quiet tick after its end all that it wrote has arrived
                if ended {
                    return silent(limits, fold.stage());
                }
                ended = worker.has_ended();
            }
        }
        if last_progress.elapsed() > limits.stall {
            return Ending::Ended(Cause::Stalled(limits.stall).in_stage(fold.stage()));
        }
    }
}

/// A worker that does not ignore Ctrl-C dies of it before the harness has taken note.
fn silent(limits: &Limits, stage: Stage) -> Ending {
    std::thread::sleep(TICK);
    match limits.interrupt.signal() {
        Some(signal) => Ending::Ended(Cause::Interrupted(signal).in_stage(stage)),
        None => Ending::Silent(stage),
    }
}

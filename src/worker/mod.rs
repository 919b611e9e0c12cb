//! The parent's side of a worker: one process per model, watched from spawn to reaping.
//!
//! Whatever the process does (crash, hang, fill the memory, talk nonsense) becomes part of one
//! model's measurement. Knows the protocol; knows nothing of engines.

mod built;
mod channel;
mod control_group;
mod ending;
mod engine;
mod fold;
mod locate;
mod probe;
mod process;
mod timeline;

pub use built::BuiltWorker;
pub(crate) use built::appended;
pub use engine::engine_of;
pub use locate::locate;

use crate::gpu::{self, Assigned, Life, Mark, Readings, Snapshot};
use crate::signal::Interrupt;
use channel::Line;
use control_group::OutOfMemoryKills;
use ending::Ending;
use fold::Fold;
use modelgate_protocol::{
    Event, Failure, FailureKind, Finite, Measurement, PhaseName, Request, Stage,
};
use process::Worker;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use timeline::Series;

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

/// The GPUs that a worker is to use, and what is in use on them before it starts.
pub struct Gpus {
    /// In the order of the request.
    pub assigned: Vec<Assigned>,
    /// What is in use, in the same order.
    pub before: Vec<Snapshot>,
    /// How more of that is had.
    pub readings: Arc<dyn Readings>,
}

impl Gpus {
    /// Looks at these GPUs now.
    ///
    /// # Errors
    /// The driver does not tell the memory of one.
    pub fn look(assigned: Vec<Assigned>, readings: Arc<dyn Readings>) -> Result<Gpus, Failure> {
        let look = |Assigned { device, gpu }: &Assigned| {
            Snapshot::take(&*readings, &gpu.uuid).ok_or_else(|| {
                Failure::new(
                    Stage::Prepare,
                    FailureKind::NoDevice,
                    format!("the driver does not tell what is in use on {device} ({})", gpu.uuid),
                    "`nvidia-smi` must show the GPU's memory; what is not seen cannot be measured",
                )
            })
        };
        let before = assigned.iter().map(look).collect::<Result<_, _>>()?;
        Ok(Gpus { assigned, before, readings })
    }

    /// `event` of a worker, which counts the GPUs that it is shown, with the names under which the
    /// model asked for them.
    fn named(&self, mut event: Event) -> Event {
        let asked = |shown: &mut String| {
            let ordinal: Option<usize> =
                shown.strip_prefix("cuda:").and_then(|ordinal| ordinal.parse().ok());
            if let Some(assigned) = ordinal.and_then(|ordinal| self.assigned.get(ordinal)) {
                shown.clone_from(&assigned.device);
            }
        };
        match &mut event {
            Event::Model { devices, .. } => devices.iter_mut().for_each(asked),
            Event::Tensor(tensor) => asked(&mut tensor.device),
            Event::Device(seen) => asked(&mut seen.device),
            Event::DeviceMemory(memory) => asked(&mut memory.device),
            Event::Ceiling(ceiling) => asked(&mut ceiling.device),
            Event::Failure(failure) => failure.message.push_str(&self.other_names()),
            _ => {}
        }
        event
    }

    /// What the worker's names stand for, where they are not those of the model.
    fn other_names(&self) -> String {
        let shown = self.assigned.iter().enumerate();
        let pairs: Vec<String> = shown
            .map(|(ordinal, assigned)| (format!("cuda:{ordinal}"), &assigned.device))
            .filter(|(shown, asked)| shown != *asked)
            .map(|(shown, asked)| format!("the worker's {shown} is {asked}"))
            .collect();
        if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(", ")) }
    }

    fn uuids(&self) -> Vec<&str> {
        self.assigned.iter().map(|assigned| assigned.gpu.uuid.as_str()).collect()
    }
}

/// What looks at the memory of a worker.
struct Probes<'a> {
    host: &'a probe::Probe,
    gpus: &'a gpu::Probe,
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

/// Is told each event; an error ends the worker.
pub type Watch<'a> = dyn FnMut(&Event) -> Result<(), Failure> + 'a;

/// Runs the worker `built` on `request` and adds what is seen of it to `measurement`. `watch` is
/// told each event as it arrives, and may refuse to go on.
pub fn run(
    built: &BuiltWorker,
    request: &Request,
    gpus: &Gpus,
    limits: &Limits,
    measurement: &mut Measurement,
    watch: &mut Watch<'_>,
) {
    let kills = OutOfMemoryKills::now();
    let mut worker = match Worker::spawn(built, request, &gpus.uuids()) {
        Ok(worker) => worker,
        Err(error) => {
            ending::no_worker(measurement, &built.program, &error);
            return;
        }
    };
    let spawned = worker.spawned();
    let probe = probe::Probe::start(worker.pid(), spawned);
    let uuids = gpus.uuids().into_iter().map(str::to_owned).collect();
    let gpu_probe = gpu::Probe::start(Arc::clone(&gpus.readings), uuids, spawned);
    let mut fold = Fold::new(measurement, &gpus.assigned, spawned);
    let probes = Probes { host: &probe, gpus: &gpu_probe };
    let ending = listen(&mut worker, gpus, limits, &mut fold, &probes, watch);
    let said_done = Instant::now();
    let exit = worker.end(ending.is_forced());
    let reaped = Instant::now();
    let marks = fold.finish(said_done, reaped);
    let mut series = probe.stop(measurement);
    let logs = gpu_probe.stop();
    let interrupted = limits.interrupt.signal().is_some();
    let patience = if interrupted { UNLOADING_INTERRUPTED } else { UNLOADING };
    series.extend(account(gpus, &logs, &marks, worker.pid(), patience, measurement));
    measurement.memory.timeline = timeline::timeline(series);
    measurement.worker_stderr = worker.output_tail();
    measurement.worker_exit = Some(exit);
    ending::conclude(measurement, ending, &kills);
}

/// Adds what the worker took of each GPU to `measurement` and gives it over time. Waits up to
/// `patience` for a GPU to have back what the worker had.
fn account(
    gpus: &Gpus,
    logs: &[gpu::Log],
    marks: &[Mark],
    worker: u32,
    patience: Duration,
    measurement: &mut Measurement,
) -> Vec<Series> {
    let mut series = Vec::new();
    for ((Assigned { device, gpu }, before), log) in
        gpus.assigned.iter().zip(&gpus.before).zip(logs)
    {
        let marks: Vec<Mark> =
            marks.iter().filter(|mark| mark.memory.device == *device).cloned().collect();
        let seen = measurement.devices_seen.iter().find(|seen| seen.device == *device);
        let mut life = Life {
            device,
            uuid: &gpu.uuid,
            before,
            log,
            after: None,
            worker,
            marks: &marks,
            baseline: seen.map(|seen| seen.own_baseline(before.memory.used)),
            loaded_s: measurement.load_s.map(Finite::get),
        };
        let is_back = |now: &Snapshot| life.is_back(now);
        let after = gpu::unloaded(&*gpus.readings, &gpu.uuid, patience, is_back);
        life.after = after.as_ref();
        let (figures, worker_use) = gpu::device_memory(&life);
        measurement.memory.devices.push(figures);
        for (what, points) in [("used", log.used.clone()), ("worker", worker_use)] {
            series.push(Series { name: format!("{device}_{what}"), points, is_kept: true });
        }
    }
    series
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
            return Ending::Interrupted(signal, fold.stage());
        }
        if worker.spawned().elapsed() > limits.deadline {
            return Ending::Deadline(limits.deadline, fold.stage());
        }
        match worker.lines().recv_timeout(TICK) {
            Ok(Line::Event(at, event)) => {
                let event = gpus.named(*event);
                probes.note(&event, at);
                if let Err(refusal) = watch(&event) {
                    return Ending::Said(refusal);
                }
                match fold.take(event, at) {
                    fold::Step::Advanced => last_progress = at,
                    fold::Step::SameProgress => {}
                    fold::Step::Done => return Ending::Done,
                    fold::Step::Failed(failure) => return Ending::Said(failure),
                    fold::Step::Refused(message) => {
                        return Ending::Said(protocol_failure(fold.stage(), message));
                    }
                }
            }
            Ok(Line::Malformed(message)) => {
                return Ending::Said(protocol_failure(fold.stage(), message));
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
            return Ending::Stalled(limits.stall, fold.stage());
        }
    }
}

/// A worker that does not ignore Ctrl-C dies of it before the harness has taken note.
fn silent(limits: &Limits, stage: Stage) -> Ending {
    std::thread::sleep(TICK);
    match limits.interrupt.signal() {
        Some(signal) => Ending::Interrupted(signal, stage),
        None => Ending::Silent(stage),
    }
}

fn protocol_failure(stage: Stage, message: String) -> Failure {
    Failure::new(
        stage,
        FailureKind::Protocol,
        message,
        "the worker must speak this version's protocol: see its schema; a worker built from \
         another version has to be built again",
    )
}

//! Supervises one worker, from its start to its record.

use super::channel::Line;
use super::control_group::OutOfMemoryKills;
use super::ending::{self, EndedWorker, Ending};
use super::error::{Cause, SuperviseError};
use super::gpus::Gpus;
use super::host_sampler::HostSampler;
use super::record_builder::{EventEffect, RecordBuilder};
use super::timeline::{self, Series};
use super::worker_process::Worker;
use crate::measurement::{DeviceMemory, ObservedMemory, Outcome, Supervised, WorkerRecord};
use crate::nvidia::{self, Assigned, MemoryMark, Snapshot, WorkerReadings};
use crate::reportable::{BoxedReportable, Reportable};
use crate::signal::Interrupt;
use crate::workers::BuiltWorker;
use modelgate_hub::Variables;
use modelgate_protocol::{Event, Finite, PhaseName, Request, Stage};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// The maximum time between two checks of deadlines, signals and the state of the worker.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// How long the release of device memory may take after the end of a worker.
const RELEASE_TIME: Duration = Duration::from_secs(3);
/// How long the release of device memory may take after a signal, which leaves the run little time.
const RELEASE_TIME_INTERRUPTED: Duration = Duration::from_millis(500);

/// The limits that end a worker early.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The maximum time from the start of the worker to its end.
    pub deadline: Duration,
    /// The maximum time without progress.
    pub stall: Duration,
    /// The signals to the harness, which end the worker too.
    pub interrupt: Interrupt,
}

/// The samplers of the memory of a worker.
struct Samplers<'a> {
    host: &'a HostSampler,
    gpus: &'a nvidia::GpuSampler,
}

impl Samplers<'_> {
    /// Informs the samplers of an event that arrived at `at`. Memory used to measure ceilings does
    /// not belong to the model.
    fn note_event(&self, event: &Event, at: Instant) {
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

/// A function that receives each event. Its error ends the worker.
pub type Watch<'a> = dyn FnMut(&Event) -> Result<(), BoxedReportable> + 'a;

/// The input of a supervised worker.
pub struct WorkerInput<'a> {
    /// The worker program.
    pub built: &'a BuiltWorker,
    /// The environment variables that the worker inherits.
    pub inherited: &'a Variables,
    /// The request that the worker gets on its standard input.
    pub request: &'a Request,
    /// The GPUs that are assigned to the worker.
    pub gpus: &'a Gpus,
    /// The limits that end the worker early.
    pub limits: &'a Limits,
}

/// Runs a worker and returns its record, without a prediction. `watch` is called with each event,
/// and its error ends the worker.
pub fn supervise(input: &WorkerInput<'_>, watch: &mut Watch<'_>) -> Supervised {
    let WorkerInput { built, inherited, request, gpus, limits } = *input;
    let kills_before = OutOfMemoryKills::now();
    let mut worker = match Worker::spawn(built, inherited, request, &gpus.uuids()) {
        Ok(worker) => worker,
        Err(source) => {
            let program = built.program.clone();
            return not_started(&Cause::NotStarted { program, source }.in_stage(Stage::Start));
        }
    };
    let spawned = worker.spawned();
    let host_sampler = HostSampler::start(worker.pid(), spawned);
    let uuids = gpus.uuids().into_iter().map(str::to_owned).collect();
    let gpu_sampler = nvidia::GpuSampler::start(Arc::clone(&gpus.readings), uuids, spawned);
    let mut builder = RecordBuilder::new(&gpus.assigned, spawned);
    let samplers = Samplers { host: &host_sampler, gpus: &gpu_sampler };
    let ending = read_events(&mut worker, gpus, limits, &mut builder, &samplers, watch);
    let last_event = Instant::now();
    let exit = worker.end(ending.is_forced());
    let reaped = Instant::now();
    let (record, marks) = builder.finish(last_event, reaped);
    let (host, mut series) = host_sampler.stop().unzip();
    let gpu_samples = gpu_sampler.stop();
    let reports = WorkerReports { pid: worker.pid(), record: &record, marks: &marks };
    let interrupted = limits.interrupt.signal().is_some();
    let patience = if interrupted { RELEASE_TIME_INTERRUPTED } else { RELEASE_TIME };
    let (devices, device_series) = device_memory(gpus, &gpu_samples, &reports, patience);
    series.get_or_insert_default().extend(device_series);
    let timeline = timeline::timeline(series.unwrap_or_default());
    let output = worker.output();
    let ended = EndedWorker { exit: &exit, output: &output, kills_before: &kills_before };
    let (outcome, failure) = ending::conclude(ending, &ended);
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

/// Returns the result for a worker that the operating system could not start.
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

/// The reports of an ended worker about its own memory.
struct WorkerReports<'a> {
    pid: u32,
    record: &'a WorkerRecord,
    marks: &'a [MemoryMark],
}

/// Returns the memory of the worker on each GPU, as a summary and over time. Waits up to `patience`
/// for the release of the memory.
fn device_memory(
    gpus: &Gpus,
    samples: &[nvidia::GpuSamples],
    worker: &WorkerReports<'_>,
    patience: Duration,
) -> (Vec<DeviceMemory>, Vec<Series>) {
    let (mut devices, mut series) = (Vec::new(), Vec::new());
    for ((Assigned { device, gpu }, before), log) in
        gpus.assigned.iter().zip(&gpus.before).zip(samples)
    {
        let marks = worker.marks.iter().filter(|mark| mark.memory.device == *device);
        let marks: Vec<MemoryMark> = marks.cloned().collect();
        let seen = worker.record.opened_devices.iter().find(|seen| seen.device == *device);
        let mut readings = WorkerReadings {
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
        let is_released = |now: &Snapshot| readings.is_released(now);
        let after = nvidia::wait_for_release(&*gpus.readings, &gpu.uuid, patience, is_released);
        readings.after = after.as_ref();
        let (summary, worker_use) = nvidia::device_memory(&readings);
        devices.push(summary);
        for (quantity, points) in [("used", log.used.clone()), ("worker", worker_use)] {
            series.push(Series {
                name: format!("{device}_{quantity}"),
                points,
                keep_extremes: true,
            });
        }
    }
    (devices, series)
}

/// Reads events until the worker is finished, reports a failure, or must be ended.
fn read_events(
    worker: &mut Worker,
    gpus: &Gpus,
    limits: &Limits,
    builder: &mut RecordBuilder<'_>,
    samplers: &Samplers<'_>,
    watch: &mut Watch<'_>,
) -> Ending {
    let mut last_progress = worker.spawned();
    let mut ended = false;
    loop {
        if let Some(signal) = limits.interrupt.signal() {
            return Ending::Ended(Cause::Interrupted(signal).in_stage(builder.stage()));
        }
        if worker.spawned().elapsed() > limits.deadline {
            return Ending::Ended(Cause::Deadline(limits.deadline).in_stage(builder.stage()));
        }
        match worker.lines().recv_timeout(CHECK_INTERVAL) {
            Ok(Line::Event(at, event)) => {
                let event = gpus.rename_devices(*event);
                samplers.note_event(&event, at);
                if let Err(reason) = watch(&event) {
                    return Ending::Refused(reason);
                }
                match builder.add(event, at) {
                    EventEffect::Advanced => last_progress = at,
                    EventEffect::SameProgress => {}
                    EventEffect::Done => return Ending::Done,
                    EventEffect::Failed(failure) => return Ending::Reported(failure),
                    EventEffect::Refused(cause) => {
                        return Ending::Ended(cause.in_stage(builder.stage()));
                    }
                }
            }
            Ok(Line::Malformed(message)) => {
                return Ending::Ended(Cause::Protocol(message).in_stage(builder.stage()));
            }
            Ok(Line::Unreadable(error)) => {
                return Ending::Ended(Cause::ChannelNotRead(error).in_stage(builder.stage()));
            }
            Err(RecvTimeoutError::Disconnected) => return silent(limits, builder.stage()),
            Err(RecvTimeoutError::Timeout) => {
                // a grandchild may keep the channel open after the end of the worker; one quiet
                // interval after its end, all of its events have arrived
                if ended {
                    return silent(limits, builder.stage());
                }
                ended = worker.has_ended();
            }
        }
        if last_progress.elapsed() > limits.stall {
            return Ending::Ended(Cause::Stalled(limits.stall).in_stage(builder.stage()));
        }
    }
}

/// Returns how a worker ended without a final event. Ctrl-C can end a worker before the harness
/// receives the signal.
fn silent(limits: &Limits, stage: Stage) -> Ending {
    std::thread::sleep(CHECK_INTERVAL);
    match limits.interrupt.signal() {
        Some(signal) => Ending::Ended(Cause::Interrupted(signal).in_stage(stage)),
        None => Ending::Silent(stage),
    }
}

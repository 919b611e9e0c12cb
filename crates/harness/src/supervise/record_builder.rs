//! Builds the record of a worker from its events. The device memory that the worker reports is
//! collected, and combined with the readings of the driver at the end.

use super::error::Cause;
use crate::measurement::{Phase, WorkerRecord};
use crate::nvidia::{Assigned, MemoryMark};
use modelgate_protocol::{
    Device, Event, Failure, Finite, PROTOCOL_VERSION, PhaseName, Progress, Stage,
};
use std::time::Instant;

/// The effect of an event.
pub(super) enum EventEffect {
    /// The worker made progress.
    Advanced,
    /// The event repeats the progress of the event before.
    SameProgress,
    /// The worker completed all requests.
    Done,
    /// The worker reported a failure.
    Failed(Failure),
    /// The protocol does not allow the event.
    Refused(Cause),
}

impl EventEffect {
    /// Returns the effect of an event that the protocol does not allow.
    fn refused(message: impl Into<String>) -> EventEffect {
        EventEffect::Refused(Cause::Protocol(message.into()))
    }
}

/// The record of a worker under construction.
pub(super) struct RecordBuilder<'a> {
    record: WorkerRecord,
    /// The GPUs assigned to the worker.
    gpus: &'a [Assigned],
    /// The reports of device memory that the worker sent.
    marks: Vec<MemoryMark>,
    spawned: Instant,
    phase: PhaseName,
    stage: Stage,
    phase_began: Instant,
    /// Whether `hello` has arrived.
    has_hello: bool,
    /// Whether the load has started. It stays true after the load.
    load_started: bool,
    /// Whether the load has completed.
    loaded: bool,
    event_count: u64,
    progress: Option<Progress>,
}

/// The maximum number of events of a worker. The largest models have some ten thousand tensors.
const MAX_EVENTS: u64 = 5_000_000;

impl<'a> RecordBuilder<'a> {
    /// Creates the record of a worker that was started at `spawned` with the GPUs `gpus`.
    pub(super) fn new(gpus: &'a [Assigned], spawned: Instant) -> RecordBuilder<'a> {
        RecordBuilder {
            record: WorkerRecord::default(),
            gpus,
            marks: Vec::new(),
            spawned,
            phase: PhaseName::Start,
            stage: Stage::Start,
            phase_began: spawned,
            has_hello: false,
            load_started: false,
            loaded: false,
            event_count: 0,
            progress: None,
        }
    }

    /// Returns the current stage of the worker.
    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Adds an event that arrived at `at`.
    pub(super) fn add(&mut self, event: Event, at: Instant) -> EventEffect {
        if !self.has_hello && !matches!(event, Event::Hello { .. }) {
            return EventEffect::refused("the first event of the worker is not `hello`");
        }
        self.event_count += 1;
        if self.event_count > MAX_EVENTS {
            return EventEffect::refused(format!(
                "the worker sent too many events: expected at most {MAX_EVENTS}"
            ));
        }
        if self.loaded && matches!(event, Event::Loaded | Event::Tensor(_)) {
            // the first `loaded` was sent too early, so its time is wrong
            self.record.load_s = None;
            return EventEffect::refused(
                "order of events: a `tensor` or a second `loaded` followed `loaded`",
            );
        }
        if let Some(message) = self.order_violation(&event) {
            return EventEffect::refused(message);
        }
        let since_spawn = self.seconds(at);
        let opened = match &event {
            Event::Device(device) => Some((device.device, &device.uuid)),
            Event::DeviceMemory(memory) => Some((memory.device, &memory.uuid)),
            _ => None,
        };
        if let Some((device, uuid)) = opened
            && let Err(cause) = self.check_device(device, uuid)
        {
            return EventEffect::Refused(cause);
        }
        let record = &mut self.record;
        match event {
            Event::Hello { protocol, engine } => {
                if protocol != PROTOCOL_VERSION {
                    return EventEffect::refused(format!(
                        "protocol version of the worker: expected {PROTOCOL_VERSION}, found \
                         {protocol}"
                    ));
                }
                self.has_hello = true;
                record.engine = Some(engine);
            }
            Event::Phase { name } => {
                self.load_started |= name == PhaseName::Load;
                self.begin(name, at);
            }
            Event::Progress(progress) => {
                let same = self.progress == Some(progress);
                self.progress = Some(progress);
                if same {
                    return EventEffect::SameProgress;
                }
            }
            Event::Model { architecture, parameters, context, config, parts, devices } => {
                record.config = config;
                record.context = Some(context);
                record.architecture = Some(architecture);
                record.parameters = Some(parameters);
                record.parts = parts;
                record.devices = devices;
            }
            Event::Tensor(tensor) => {
                self.load_started = true;
                record.tensors.push(tensor);
            }
            Event::Omitted(omitted) => record.omitted.push(omitted),
            Event::Note { text } => record.notes.push(text),
            Event::Activity(activity) => {
                replace(&mut record.activities, activity, |a, b| a.name == b.name);
            }
            Event::Device(device) => {
                replace(&mut record.opened_devices, device, |a, b| a.device == b.device);
            }
            // memory used to measure ceilings does not belong to the model
            Event::DeviceMemory(_) if self.phase == PhaseName::Ceilings => {}
            Event::DeviceMemory(memory) => {
                self.marks.push(MemoryMark { t_s: since_spawn.get(), memory });
            }
            Event::Ceiling(ceiling) => record.ceilings.push(ceiling),
            Event::Loaded => {
                (self.load_started, self.loaded) = (true, true);
                record.load_s = Some(since_spawn);
            }
            Event::Generation(generation) => record.generations.push(generation),
            Event::Perplexity(perplexity) => record.perplexity = Some(perplexity),
            Event::Agreement(agreement) => record.agreement = Some(agreement),
            Event::Failure(failure) => return EventEffect::Failed(failure),
            Event::Done => return EventEffect::Done,
        }
        EventEffect::Advanced
    }

    /// Closes the last phase, and adds the phase `unload` from the last event until the worker was
    /// reaped. Returns the record, and the reports of device memory.
    pub(super) fn finish(
        mut self,
        last_event: Instant,
        reaped: Instant,
    ) -> (WorkerRecord, Vec<MemoryMark>) {
        self.begin(PhaseName::Unload, last_event);
        self.close(reaped);
        (self.record, self.marks)
    }

    /// Returns why `event` is not allowed now. `None` if it is allowed. An event in a wrong order
    /// would hide memory, or report the memory of a GPU that the worker did not open.
    fn order_violation(&self, event: &Event) -> Option<String> {
        match event {
            Event::Phase { name: PhaseName::Start | PhaseName::Unload } => {
                Some("the worker must not send the phases `start` and `unload`".into())
            }
            Event::Phase { name: PhaseName::Ceilings } if !self.loaded => Some(
                "order of events: the phase `ceilings`, in which memory is not counted, began \
                 before `loaded`"
                    .into(),
            ),
            Event::Phase { .. }
            | Event::Generation(_)
            | Event::Perplexity(_)
            | Event::Agreement(_)
                if self.phase == PhaseName::Ceilings =>
            {
                Some(
                    "order of events: work on the model followed the phase `ceilings`, which must \
                     be the last"
                        .into(),
                )
            }
            Event::Device(seen) if self.load_started => Some(format!(
                "order of events: {} was opened after the start of the load",
                seen.device
            )),
            Event::Loaded => self.unopened().map(|device| {
                format!("{device}: the worker reports tensors on this device, but did not open it")
            }),
            _ => None,
        }
    }

    /// Returns a GPU with tensors that the worker did not open. `None` if there is none.
    fn unopened(&self) -> Option<Device> {
        let record = &self.record;
        let is_open = |device| record.opened_devices.iter().any(|seen| seen.device == device);
        let is_used = |device| record.tensors.iter().any(|tensor| tensor.device == device);
        let mut devices = self.gpus.iter().map(|assigned| assigned.device);
        devices.find(|device| is_used(*device) && !is_open(*device))
    }

    /// Checks that the worker opened an assigned GPU.
    ///
    /// # Errors
    /// The GPU is not the one that is assigned as `device`.
    fn check_device(&self, device: Device, uuid: &str) -> Result<(), Cause> {
        let assigned = self.gpus.iter().find(|assigned| assigned.device == device);
        if assigned.is_some_and(|assigned| assigned.gpu.uuid.eq_ignore_ascii_case(uuid)) {
            return Ok(());
        }
        let expected = match assigned {
            Some(assigned) => format!("expected {} ({})", assigned.gpu.uuid, assigned.gpu.name),
            None => "which is not assigned to it".to_owned(),
        };
        Err(Cause::WrongDevice { device, uuid: uuid.to_owned(), expected })
    }

    /// Closes the current phase, and begins the phase `name`.
    fn begin(&mut self, name: PhaseName, at: Instant) {
        self.close(at);
        self.stage = stage(&name).unwrap_or(self.stage);
        self.phase = name;
        self.phase_began = at;
    }

    /// Adds the current phase, which ended at `at`, to the record.
    fn close(&mut self, at: Instant) {
        let phase = Phase {
            name: self.phase.clone(),
            start_s: self.seconds(self.phase_began),
            end_s: self.seconds(at),
        };
        self.record.phases.push(phase);
    }

    /// Returns the seconds from the start of the worker until `at`.
    fn seconds(&self, at: Instant) -> Finite {
        Finite::seconds(at.saturating_duration_since(self.spawned))
    }
}

/// Replaces the item of `list` that is the same as `item`, or appends `item`.
fn replace<T>(list: &mut Vec<T>, item: T, same: impl Fn(&T, &T) -> bool) {
    match list.iter_mut().find(|old| same(old, &item)) {
        Some(old) => *old = item,
        None => list.push(item),
    }
}

/// Returns the stage of a phase. `None` for phases that other engines add: they belong to the stage
/// in which they begin.
fn stage(phase: &PhaseName) -> Option<Stage> {
    Some(match phase {
        PhaseName::Start | PhaseName::Device | PhaseName::Kernels => Stage::Start,
        PhaseName::Load => Stage::Load,
        PhaseName::Warmup
        | PhaseName::Generate
        | PhaseName::Perplexity
        | PhaseName::Agreement
        | PhaseName::Ceilings => Stage::Generate,
        PhaseName::Unload => Stage::Unload,
        PhaseName::Other(_) => return None,
    })
}

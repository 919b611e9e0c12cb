//! From events to the record of a worker: each event is a fragment of it. What a worker reports of device
//! memory is only one of two views, and is kept for the account at its end.

use super::error::Cause;
use crate::measurement::{Phase, WorkerRecord};
use crate::nvidia::{Assigned, Mark};
use modelgate_protocol::{
    Device, Event, Failure, Finite, PROTOCOL_VERSION, PhaseName, Progress, Stage,
};
use std::time::Instant;

/// What an event meant.
pub(super) enum Step {
    /// Something new was seen.
    Advanced,
    /// Progress that stands where it stood.
    SameProgress,
    /// The worker is done.
    Done,
    /// The worker cannot go on.
    Failed(Failure),
    /// The event cannot be.
    Refused(Cause),
}

impl Step {
    /// Returns the step for an event that the protocol does not allow.
    fn refused(message: impl Into<String>) -> Step {
        Step::Refused(Cause::Protocol(message.into()))
    }
}

/// A record in the making.
pub(super) struct Fold<'a> {
    record: WorkerRecord,
    /// The GPUs that the worker is to use.
    gpus: &'a [Assigned],
    /// What it said of their memory.
    marks: Vec<Mark>,
    spawned: Instant,
    phase: PhaseName,
    stage: Stage,
    phase_began: Instant,
    greeted: bool,
    /// Whether the load has begun.
    loading: bool,
    loaded: bool,
    events: u64,
    progress: Option<Progress>,
}

/// Events beyond this are a flood; the largest models have some ten thousand tensors.
const MAX_EVENTS: u64 = 5_000_000;

impl<'a> Fold<'a> {
    pub(super) fn new(gpus: &'a [Assigned], spawned: Instant) -> Fold<'a> {
        Fold {
            record: WorkerRecord::default(),
            gpus,
            marks: Vec::new(),
            spawned,
            phase: PhaseName::Start,
            stage: Stage::Start,
            phase_began: spawned,
            greeted: false,
            loading: false,
            loaded: false,
            events: 0,
            progress: None,
        }
    }

    /// Returns the stage that the worker is in.
    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Takes an event in that arrived `at`.
    pub(super) fn take(&mut self, event: Event, at: Instant) -> Step {
        if !self.greeted && !matches!(event, Event::Hello { .. }) {
            return Step::refused("the worker's first event is no hello");
        }
        self.events += 1;
        if self.events > MAX_EVENTS {
            return Step::refused(format!("the worker sent more than {MAX_EVENTS} events"));
        }
        if self.loaded && matches!(event, Event::Loaded | Event::Tensor(_)) {
            // so it was not true, and neither is the time
            self.record.load_s = None;
            return Step::refused("a tensor or a second `loaded` came after `loaded`");
        }
        if let Some(message) = self.out_of_place(&event) {
            return Step::refused(message);
        }
        let since_spawn = self.seconds(at);
        let told = match &event {
            Event::Device(device) => Some((device.device, &device.uuid)),
            Event::DeviceMemory(memory) => Some((memory.device, &memory.uuid)),
            _ => None,
        };
        if let Some((device, uuid)) = told
            && let Err(cause) = self.is_expected(device, uuid)
        {
            return Step::Refused(cause);
        }
        let record = &mut self.record;
        match event {
            Event::Hello { protocol, engine } => {
                if protocol != PROTOCOL_VERSION {
                    return Step::refused(format!(
                        "the worker speaks protocol {protocol}, this harness {PROTOCOL_VERSION}"
                    ));
                }
                self.greeted = true;
                record.engine = Some(engine);
            }
            Event::Phase { name } => {
                self.loading |= name == PhaseName::Load;
                self.begin(name, at);
            }
            Event::Progress(progress) => {
                let same = self.progress == Some(progress);
                self.progress = Some(progress);
                if same {
                    return Step::SameProgress;
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
                self.loading = true;
                record.tensors.push(tensor);
            }
            Event::Omitted(omitted) => record.omitted.push(omitted),
            Event::Activity(activity) => {
                replace(&mut record.activities, activity, |a, b| a.name == b.name);
            }
            Event::Device(device) => {
                replace(&mut record.devices_seen, device, |a, b| a.device == b.device);
            }
            // what the measuring of ceilings takes is not the model's
            Event::DeviceMemory(_) if self.phase == PhaseName::Ceilings => {}
            Event::DeviceMemory(memory) => {
                self.marks.push(Mark { t_s: since_spawn.get(), memory });
            }
            Event::Ceiling(ceiling) => record.ceilings.push(ceiling),
            Event::Loaded => {
                (self.loading, self.loaded) = (true, true);
                record.load_s = Some(since_spawn);
            }
            Event::Generation(generation) => record.generations.push(generation),
            Event::Perplexity(perplexity) => record.perplexity = Some(perplexity),
            Event::Agreement(agreement) => record.agreement = Some(agreement),
            Event::Failure(failure) => return Step::Failed(failure),
            Event::Done => return Step::Done,
        }
        Step::Advanced
    }

    /// Closes the last phase and adds the one from the worker's last event to its reaping. Returns the
    /// record, and what the worker reported of device memory.
    pub(super) fn finish(
        mut self,
        last_event: Instant,
        reaped: Instant,
    ) -> (WorkerRecord, Vec<Mark>) {
        self.begin(PhaseName::Unload, last_event);
        self.close(reaped);
        (self.record, self.marks)
    }

    /// Why `event` cannot come now. What would let a worker take memory unseen, or call a GPU full
    /// that it never opened, is no matter of taste.
    fn out_of_place(&self, event: &Event) -> Option<String> {
        match event {
            Event::Phase { name: PhaseName::Start | PhaseName::Unload } => {
                Some("the phases start and unload are the harness's own".into())
            }
            Event::Phase { name: PhaseName::Ceilings } if !self.loaded => Some(
                "the phase ceilings, in which memory is not counted, began before `loaded`".into(),
            ),
            Event::Phase { .. }
            | Event::Generation(_)
            | Event::Perplexity(_)
            | Event::Agreement(_)
                if self.phase == PhaseName::Ceilings =>
            {
                Some("work on the model came after the phase ceilings, which is the last".into())
            }
            Event::Device(seen) if self.loading => {
                Some(format!("{} was opened after the load had begun", seen.device))
            }
            Event::Loaded => self.unopened().map(|device| {
                format!("tensors are said to be on {device}, which the worker never said to open")
            }),
            _ => None,
        }
    }

    /// A GPU on which a tensor is said to be and of which there was no word before.
    fn unopened(&self) -> Option<Device> {
        let record = &self.record;
        let is_open = |device| record.devices_seen.iter().any(|seen| seen.device == device);
        let is_used = |device| record.tensors.iter().any(|tensor| tensor.device == device);
        let mut devices = self.gpus.iter().map(|assigned| assigned.device);
        devices.find(|device| is_used(*device) && !is_open(*device))
    }

    /// Refuses a device that is not the one that the worker was given under this name.
    fn is_expected(&self, device: Device, uuid: &str) -> Result<(), Cause> {
        let given = self.gpus.iter().find(|assigned| assigned.device == device);
        if given.is_some_and(|assigned| assigned.gpu.uuid.eq_ignore_ascii_case(uuid)) {
            return Ok(());
        }
        let expected = match given {
            Some(assigned) => format!("expected {} ({})", assigned.gpu.uuid, assigned.gpu.name),
            None => "which it was not given".to_owned(),
        };
        Err(Cause::WrongDevice { device, uuid: uuid.to_owned(), expected })
    }

    fn begin(&mut self, name: PhaseName, at: Instant) {
        self.close(at);
        self.stage = stage(&name).unwrap_or(self.stage);
        self.phase = name;
        self.phase_began = at;
    }

    fn close(&mut self, at: Instant) {
        let phase = Phase {
            name: self.phase.clone(),
            start_s: self.seconds(self.phase_began),
            end_s: self.seconds(at),
        };
        self.record.phases.push(phase);
    }

    fn seconds(&self, at: Instant) -> Finite {
        Finite::seconds(at.saturating_duration_since(self.spawned))
    }
}

fn replace<T>(list: &mut Vec<T>, item: T, same: impl Fn(&T, &T) -> bool) {
    match list.iter_mut().find(|old| same(old, &item)) {
        Some(old) => *old = item,
        None => list.push(item),
    }
}

/// Returns the stage that a phase belongs to; `None` for the phases of other engines, which stay in the
/// stage that they began in.
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

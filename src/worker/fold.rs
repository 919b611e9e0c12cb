//! Events into a measurement: each is a fragment of it. What a worker says of device memory is only
//! a part of the truth, and is kept for the sum at its end.

use crate::gpu::{Assigned, Mark};
use modelgate_protocol::{
    Event, Failure, FailureKind, Finite, Measurement, PROTOCOL_VERSION, Phase, PhaseName, Progress,
    Stage, Tensors,
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
    /// The event does not belong here.
    Refused(String),
}

/// A measurement in the making.
pub(super) struct Fold<'a> {
    measurement: &'a mut Measurement,
    /// The GPUs that the worker is to use.
    gpus: &'a [Assigned],
    /// What it said of their memory.
    marks: Vec<Mark>,
    spawned: Instant,
    phase: PhaseName,
    phase_began: Instant,
    greeted: bool,
    /// Whether the load has begun.
    loading: bool,
    loaded: bool,
    events: u64,
    progress: Option<Progress>,
}

/// Events beyond this are a flood; the largest models have some ten thousand tensors.
const MOST_EVENTS: u64 = 5_000_000;

impl<'a> Fold<'a> {
    pub(super) fn new(
        measurement: &'a mut Measurement,
        gpus: &'a [Assigned],
        spawned: Instant,
    ) -> Fold<'a> {
        Fold {
            measurement,
            gpus,
            marks: Vec::new(),
            spawned,
            phase: PhaseName::Start,
            phase_began: spawned,
            greeted: false,
            loading: false,
            loaded: false,
            events: 0,
            progress: None,
        }
    }

    /// The stage that the worker is in.
    pub(super) fn stage(&self) -> Stage {
        match self.phase {
            PhaseName::Start | PhaseName::Device | PhaseName::Kernels => Stage::Start,
            PhaseName::Load => Stage::Load,
            PhaseName::Warmup
            | PhaseName::Generate
            | PhaseName::Perplexity
            | PhaseName::Agreement
            | PhaseName::Ceilings => Stage::Generate,
            PhaseName::Unload => Stage::Unload,
        }
    }

    /// Takes an event in that arrived `at`.
    pub(super) fn take(&mut self, event: Event, at: Instant) -> Step {
        if !self.greeted && !matches!(event, Event::Hello { .. }) {
            return Step::Refused("the worker's first event is no hello".into());
        }
        self.events += 1;
        if self.events > MOST_EVENTS {
            return Step::Refused(format!("the worker sent more than {MOST_EVENTS} events"));
        }
        if self.loaded && matches!(event, Event::Loaded | Event::Tensor(_)) {
            // so it was not true, and neither is the time
            self.measurement.load_s = None;
            return Step::Refused("a tensor or a second `loaded` came after `loaded`".into());
        }
        if let Some(message) = self.out_of_place(&event) {
            return Step::Refused(message);
        }
        let since_spawn = self.seconds(at);
        let told = match &event {
            Event::Device(device) => Some((&device.device, &device.uuid)),
            Event::DeviceMemory(memory) => Some((&memory.device, &memory.uuid)),
            _ => None,
        };
        if let Some((device, uuid)) = told
            && let Err(failure) = self.is_expected(device, uuid)
        {
            return Step::Failed(failure);
        }
        let seen = &mut *self.measurement;
        match event {
            Event::Hello { protocol, engine } => {
                if protocol != PROTOCOL_VERSION {
                    return Step::Refused(format!(
                        "the worker speaks protocol {protocol}, this harness {PROTOCOL_VERSION}"
                    ));
                }
                self.greeted = true;
                seen.engine = Some(engine);
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
                seen.config = seen.config.take().or(config);
                seen.context = Some(context);
                seen.architecture = Some(architecture);
                seen.parameters = Some(parameters);
                seen.parts = parts;
                seen.devices = devices;
            }
            Event::Tensor(tensor) => {
                self.loading = true;
                seen.tensors.list.push(tensor);
            }
            Event::Omitted(omitted) => seen.tensors.omitted.push(omitted),
            Event::Activity(activity) => {
                replace(&mut seen.activities, activity, |a, b| a.name == b.name);
            }
            Event::Device(device) => {
                replace(&mut seen.devices_seen, device, |a, b| a.device == b.device);
            }
            // what the measuring of ceilings takes is not the model's
            Event::DeviceMemory(_) if self.phase == PhaseName::Ceilings => {}
            Event::DeviceMemory(memory) => {
                self.marks.push(Mark { t_s: since_spawn.get(), memory });
            }
            Event::Ceiling(ceiling) => seen.ceilings.push(ceiling),
            Event::Loaded => {
                (self.loading, self.loaded) = (true, true);
                seen.load_s = Some(since_spawn);
            }
            Event::Generation(generation) => seen.generations.push(generation),
            Event::Perplexity(perplexity) => seen.perplexity = Some(perplexity),
            Event::Agreement(agreement) => seen.agreement = Some(agreement),
            Event::Failure(failure) => return Step::Failed(failure),
            Event::Done => return Step::Done,
        }
        Step::Advanced
    }

    /// Closes the last phase, adds the one from the worker's last word to its reaping, and sums the
    /// inventory up. Gives what the worker said of device memory.
    pub(super) fn finish(mut self, said_done: Instant, reaped: Instant) -> Vec<Mark> {
        self.begin(PhaseName::Unload, said_done);
        self.close(reaped);
        sum_up(&mut self.measurement.tensors);
        self.marks
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
    fn unopened(&self) -> Option<&'a str> {
        let seen = &*self.measurement;
        let is_open = |name: &str| seen.devices_seen.iter().any(|seen| seen.device == name);
        let is_used = |name: &str| seen.tensors.list.iter().any(|tensor| tensor.device == name);
        let mut names = self.gpus.iter().map(|assigned| assigned.device.as_str());
        names.find(|name| is_used(name) && !is_open(name))
    }

    /// Refuses a device that is not the one that the worker was given under this name.
    fn is_expected(&self, device: &str, uuid: &str) -> Result<(), Failure> {
        let given = self.gpus.iter().find(|assigned| assigned.device == device);
        if given.is_some_and(|assigned| assigned.gpu.uuid.eq_ignore_ascii_case(uuid)) {
            return Ok(());
        }
        let expected = match given {
            Some(assigned) => format!("expected {} ({})", assigned.gpu.uuid, assigned.gpu.name),
            None => "which it was not given".to_owned(),
        };
        Err(Failure::new(
            self.stage(),
            FailureKind::DeviceMismatch,
            format!("the worker opened {uuid} as {device}, {expected}"),
            "the harness lists the GPUs in CUDA_VISIBLE_DEVICES, and a worker must count them as \
             CUDA does then; what changes that variable in front of the worker, such as a wrapper, \
             has to leave it",
        ))
    }

    fn begin(&mut self, name: PhaseName, at: Instant) {
        self.close(at);
        self.phase = name;
        self.phase_began = at;
    }

    fn close(&mut self, at: Instant) {
        let phase = Phase {
            name: self.phase.name().to_owned(),
            start_s: self.seconds(self.phase_began),
            end_s: self.seconds(at),
        };
        self.measurement.phases.push(phase);
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

fn sum_up(tensors: &mut Tensors) {
    tensors.by_type.clear();
    let (mut bytes, mut elements) = (0u64, 0u64);
    for tensor in &tensors.list {
        bytes = bytes.saturating_add(tensor.bytes);
        elements = elements.saturating_add(tensor.elements());
        let of_type = tensors.by_type.entry(tensor.dtype.name().to_owned()).or_default();
        *of_type = of_type.saturating_add(tensor.bytes);
    }
    tensors.bits_per_weight = Finite::new(bytes as f64 * 8.0 / elements as f64);
}

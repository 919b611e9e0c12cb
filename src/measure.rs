//! One model from its entry in the manifest to its measurement: prepare, acquire, worker.

use crate::acquire;
use crate::check::{generation_requests, perplexity_text};
use crate::env::{self, Environment};
use crate::gpu::{self, Assigned, Readings};
use crate::host::Host;
use crate::manifest::{DeviceChoice, Manifest, Model, Source, parse_bytes, parse_device};
use crate::progress::ModelProgress;
use crate::signal::Interrupt;
use crate::worker::{self, BuiltWorker, Gpus, Limits};
use crate::workers::Workers;
use crate::{known, predict};
use modelgate_model::{Config, ConfigError};
use modelgate_protocol::{
    Device, Event, Failure, FailureKind, Finite, Measurement, Outcome, PROTOCOL_VERSION,
    Prediction, Request, Stage,
};
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Parameters above which an unoptimised build would take hours.
const LARGE: u64 = 1_000_000_000;

/// What every measurement of a run shares.
pub struct Surroundings<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// What the environment asks for.
    pub environment: &'a Environment,
    /// The host.
    pub host: &'a Host,
    /// The worker programs.
    pub workers: &'a Workers,
    /// What is in use on its GPUs.
    pub readings: &'a Arc<dyn Readings>,
    /// A folder for what lives as long as the program's version.
    pub scratch: &'a Path,
    /// Signals to the harness.
    pub interrupt: &'a Interrupt,
}

/// Measures `model`. Never fails: what goes wrong is part of the measurement.
pub fn measure(model: &Model, surroundings: &Surroundings<'_>) -> Measurement {
    let mut measurement = Measurement::empty();
    let result = prepare(model, surroundings, &mut measurement)
        .and_then(|prepared| run(prepared, model, surroundings, &mut measurement));
    if let Err(failure) = result {
        measurement.outcome = match (failure.kind, failure.stage) {
            (FailureKind::Interrupted, _) => Outcome::Interrupted,
            (_, Stage::Acquire) => Outcome::NotAcquired,
            _ => Outcome::Failed,
        };
        measurement.failure = Some(failure);
    }
    measurement
}

/// What [`prepare`] makes: the worker program, what it is asked, and the GPUs that it gets.
type Prepared = (BuiltWorker, Request, Vec<Assigned>);

/// The worker's life, while nobody else measures on its GPUs.
fn run(
    (built, request, assigned): Prepared,
    model: &Model,
    surroundings: &Surroundings<'_>,
    measurement: &mut Measurement,
) -> Result<(), Failure> {
    let (interrupt, folder) = (surroundings.interrupt, Path::new(gpu::FOLDER));
    let _held = gpu::hold(folder, &assigned, &model.id, model.stall, interrupt)?;
    let gpus = Gpus::look(assigned, Arc::clone(surroundings.readings))?;
    let mut progress = ModelProgress::new(&model.title());
    let limits =
        Limits { deadline: model.deadline, stall: model.stall, interrupt: interrupt.clone() };
    let mut foresight = Foresight::new(model, surroundings, &request, &gpus, measurement);
    let mut watch = |event: &Event| {
        progress.event(event);
        foresight.take(event)
    };
    worker::run(&built, &request, &gpus, &limits, measurement, &mut watch);
    foresight.tell(measurement);
    Ok(())
}

/// The prediction as it grows with what the worker tells: the config, where only it could read
/// that, and what it takes of each device before the first weight.
struct Foresight<'a> {
    model: &'a Model,
    surroundings: &'a Surroundings<'a>,
    devices: &'a [Device],
    gpus: &'a Gpus,
    limit: Option<u64>,
    /// Bytes of files whose blocks stay what they are.
    file_bytes: Option<u64>,
    /// Once it is known.
    config: Option<Config>,
    /// Of the devices that are open, in the order of `gpus`.
    rooms: Vec<Option<predict::Room>>,
    prediction: Option<Prediction>,
}

impl<'a> Foresight<'a> {
    fn new(
        model: &'a Model,
        surroundings: &'a Surroundings<'a>,
        request: &'a Request,
        gpus: &'a Gpus,
        measurement: &Measurement,
    ) -> Foresight<'a> {
        // what the files say themselves needs no word of the worker
        let foreseen = request.files.config.is_some();
        let text = measurement.config.as_deref().filter(|_| foreseen);
        Foresight {
            model,
            surroundings,
            devices: &request.devices,
            gpus,
            limit: request.device_limit,
            file_bytes: (!foreseen).then(|| measurement.files.iter().map(|file| file.bytes).sum()),
            config: text.and_then(|text| Config::from_json(text).ok()),
            rooms: vec![None; gpus.assigned.len()],
            prediction: measurement.memory.prediction.clone(),
        }
    }

    /// Takes an event in.
    ///
    /// # Errors
    /// The model cannot be what was expected, or does not fit.
    fn take(&mut self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::Model { config: Some(text), .. } if self.config.is_none() => {
                let config = read_told(text)?;
                refuse_unoptimised(&config, self.surroundings)?;
                refuse_impossible(&config, self.model, self.devices, self.file_bytes)?;
                let prediction =
                    predict::predict(&config, self.model, self.devices, self.file_bytes);
                refuse_beyond_host(&prediction, self.model, self.surroundings.host)?;
                self.prediction = Some(prediction);
                self.config = Some(config);
                self.complete()
            }
            Event::Device(seen) => {
                let given = &self.gpus.assigned;
                let index = given.iter().position(|assigned| assigned.device == seen.device);
                // a device that was not given is refused where the event is folded
                if let Some(index) = index {
                    let before = self.gpus.before[index].memory.used;
                    self.rooms[index] = Some(predict::Room {
                        total: seen.total,
                        others: before,
                        limit: self.limit,
                        baseline: Some(seen.own_baseline(before)),
                    });
                }
                self.complete()
            }
            _ => Ok(()),
        }
    }

    /// Adds the devices' baselines once all of them and the config are known.
    ///
    /// # Errors
    /// The model does not fit.
    fn complete(&mut self) -> Result<(), Failure> {
        let rooms: Option<Vec<predict::Room>> = self.rooms.iter().copied().collect();
        let (Some(config), Some(rooms)) = (&self.config, rooms) else {
            return Ok(());
        };
        if rooms.is_empty() {
            return Ok(());
        }
        let baseline = rooms.iter().filter_map(|room| room.baseline).fold(0, u64::saturating_add);
        self.prediction = self.prediction.take().map(|old| predict::on_devices(old, baseline));
        refuse_too_large(config, self.model, self.devices, self.file_bytes, &rooms)
    }

    /// Adds the prediction to the measurement.
    fn tell(self, measurement: &mut Measurement) {
        let Some(prediction) = self.prediction else {
            return;
        };
        if let Some(host) = &mut measurement.memory.host {
            host.predicted_peak = Some(prediction.host_peak);
        }
        // how an engine shares a model out among several devices is not known here
        if let ([device], false) =
            (&mut measurement.memory.devices[..], self.devices.contains(&Device::Cpu))
        {
            device.predicted_peak = Some(prediction.device_peak);
        }
        measurement.memory.prediction = Some(prediction);
    }
}

/// The config of a model that only the worker could read.
fn read_told(config: &str) -> Result<Config, Failure> {
    Config::from_json(config).map_err(|error| {
        Failure::new(
            Stage::Load,
            FailureKind::Protocol,
            format!("the worker describes the model by a config that cannot be used: {error}"),
            "a defect of the engine",
        )
    })
}

/// Refuses a model that is too large for its GPUs.
fn refuse_too_large(
    config: &Config,
    model: &Model,
    devices: &[Device],
    file_bytes: Option<u64>,
    rooms: &[predict::Room],
) -> Result<(), Failure> {
    let found = predict::too_large(config, model, devices, file_bytes, rooms);
    refuse(found, FailureKind::DeviceMemory)
}

/// What there is to be had of GPUs of which nothing but their size is known.
fn empty_rooms(assigned: &[Assigned], limit: Option<u64>) -> Vec<predict::Room> {
    let room = |Assigned { gpu, .. }: &Assigned| predict::Room {
        total: gpu.vram_bytes,
        others: 0,
        limit,
        baseline: None,
    };
    assigned.iter().map(room).collect()
}

/// Refuses a model that is too large for the host.
fn refuse_beyond_host(prediction: &Prediction, model: &Model, host: &Host) -> Result<(), Failure> {
    refuse(predict::beyond_host(prediction, model, host.ram_bytes), FailureKind::HostMemory)
}

fn refuse_impossible(
    config: &Config,
    model: &Model,
    devices: &[Device],
    file_bytes: Option<u64>,
) -> Result<(), Failure> {
    let found = predict::impossible(config, model, &model.expect, devices, file_bytes);
    refuse(found, FailureKind::Impossible)
}

/// What the arithmetic has found, as a failure of that kind.
fn refuse(found: Option<predict::Impossible>, kind: FailureKind) -> Result<(), Failure> {
    match found {
        None => Ok(()),
        Some(predict::Impossible { message, hint }) => {
            Err(Failure::new(Stage::Prepare, kind, message, hint))
        }
    }
}

/// All that comes before the worker.
fn prepare(
    model: &Model,
    surroundings: &Surroundings<'_>,
    measurement: &mut Measurement,
) -> Result<Prepared, Failure> {
    let devices = devices(model, surroundings.environment)?;
    measurement.requested_devices = devices.iter().map(Device::to_string).collect();
    let known = match &model.source {
        Source::Hub { repo, .. } => known::config(repo).and_then(Result::ok),
        Source::Local { .. } => None,
    };
    if let Some(config) = &known {
        let prediction = predict::predict(config, model, &devices, None);
        measurement.memory.prediction = Some(prediction.clone());
        refuse_unoptimised(config, surroundings)?;
        refuse_beyond_host(&prediction, model, surroundings.host)?;
    }
    let device_limit = vram_limit(surroundings.environment)?;
    let assigned = assigned(model, surroundings.environment, surroundings.host)?;
    let rooms = empty_rooms(&assigned, device_limit);
    if let Some(config) = &known {
        refuse_too_large(config, model, &devices, None, &rooms)?;
    }
    let built = surroundings.workers.for_gpus(&assigned)?;
    if !assigned.is_empty() {
        gpu::suits(&worker::engine_of(&built)?, &built.program, &assigned)?;
    }
    let text = perplexity_text(model, surroundings.manifest).map_err(|message| {
        Failure::new(
            Stage::Prepare,
            FailureKind::NotFound,
            message,
            "expect.perplexity.text is a readable text file; a relative path is taken from the \
             manifest's folder",
        )
    })?;
    let began = Instant::now();
    let known = RefCell::new(None);
    let admit = |path: &Path| {
        let (text, config) = read_config(path)?;
        let prediction = predict::predict(&config, model, &devices, None);
        *known.borrow_mut() = Some((text, config.clone(), prediction.clone()));
        refuse_unoptimised(&config, surroundings)?;
        refuse_impossible(&config, model, &devices, None)?;
        refuse_beyond_host(&prediction, model, surroundings.host)?;
        refuse_too_large(&config, model, &devices, None, &rooms)
    };
    let context = acquire::Context {
        manifest: surroundings.manifest,
        environment: surroundings.environment,
        scratch: surroundings.scratch,
        interrupt: surroundings.interrupt,
        verify: false,
        admit: &admit,
    };
    let acquired = acquire::acquire(model, &context);
    measurement.acquire_s = Some(Finite::seconds(began.elapsed()));
    let mut config = None;
    if let Some((text, read, prediction)) = known.take() {
        measurement.config = Some(text);
        measurement.memory.prediction = Some(prediction);
        config = Some(read);
    }
    let acquired = acquired?;
    measurement.files = acquired.seen;
    measurement.commit = acquired.commit;
    measurement.downloaded_bytes = acquired.downloaded_bytes;
    measurement.notes = acquired.notes;
    let request = Request {
        protocol: PROTOCOL_VERSION,
        model: model.id.clone(),
        files: acquired.files,
        evidence: model.weights.evidence(),
        quantization: model.quantization,
        devices: gpu::shown(&devices),
        device_limit,
        context: model.context,
        generations: generation_requests(model, config.as_ref()),
        perplexity_text: text,
    };
    Ok((built, request, assigned))
}

/// The devices that the model is to live on.
fn devices(model: &Model, environment: &Environment) -> Result<Vec<Device>, Failure> {
    match &model.device {
        DeviceChoice::Listed(devices) => Ok(devices.clone()),
        DeviceChoice::Auto => Ok(vec![automatic(environment)?]),
    }
}

/// The GPUs that the model is to live on.
///
/// # Errors
/// A device that cannot be said, or that the host does not have.
pub(crate) fn assigned(
    model: &Model,
    environment: &Environment,
    host: &Host,
) -> Result<Vec<Assigned>, Failure> {
    let devices = devices(model, environment)?;
    gpu::assign(&devices, &model.id, host, environment.visible_devices.as_deref())
}

/// What a worker may take of each GPU; none for all that there is.
pub(crate) fn vram_limit(environment: &Environment) -> Result<Option<u64>, Failure> {
    let Some(value) = &environment.vram_limit else {
        return Ok(None);
    };
    let parsed = parse_bytes(&value.to_string_lossy());
    parsed.map(Some).map_err(|expected| {
        Failure::new(
            Stage::Prepare,
            FailureKind::DeviceMemory,
            format!("{}: {expected}", env::VRAM_LIMIT),
            "such as MODELGATE_VRAM_LIMIT=20GB; unset it for all that there is",
        )
    })
}

/// Refuses a choice of building that is none.
pub(crate) fn build_choice(environment: &Environment) -> Result<(), Failure> {
    match &environment.build {
        Some(value) if value != env::NEVER => Err(Failure::new(
            Stage::Prepare,
            FailureKind::NoWorker,
            format!("{}={}: no such choice", env::BUILD, value.display()),
            format!("expected {}; unset it to have a worker with CUDA built", env::NEVER),
        )),
        _ => Ok(()),
    }
}

/// What `auto` means here.
pub(crate) fn automatic(environment: &Environment) -> Result<Device, Failure> {
    let Some(value) = &environment.device else {
        return Ok(Device::Cpu);
    };
    value.to_str().and_then(parse_device).ok_or_else(|| {
        Failure::new(
            Stage::Prepare,
            FailureKind::NoDevice,
            format!("{}={}: no such device", env::DEVICE, value.display()),
            "expected cpu, cuda or cuda:N",
        )
    })
}

/// The config at `path` and its text.
///
/// # Errors
/// It cannot be read, or is none that can be loaded.
pub(crate) fn read_config(path: &Path) -> Result<(String, Config), Failure> {
    let failure = |kind, message: String, hint: &str| {
        Failure::new(Stage::Load, kind, format!("{}: {message}", path.display()), hint)
    };
    let text = acquire::read_small(path).map_err(|error| {
        failure(FailureKind::Io, error.to_string(), "check the file, its permissions and the disk")
    })?;
    match Config::from_json(&text) {
        Ok(config) => Ok((text, config)),
        Err(ConfigError::Unsupported(message)) => Err(failure(
            FailureKind::Unsupported,
            message,
            "choose a model of a supported architecture, in 16 or 32 bits or as GGUF",
        )),
        Err(ConfigError::Malformed(message)) => Err(failure(
            FailureKind::Corrupt,
            message,
            "fetch config.json again from the model's repository",
        )),
    }
}

fn refuse_unoptimised(config: &Config, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    // a worker from elsewhere may be optimised though the harness is not
    let unoptimised = cfg!(debug_assertions) && surroundings.environment.worker.is_none();
    refuse_large(modelgate_model::parameters(config), unoptimised)
}

fn refuse_large(parameters: u64, unoptimised: bool) -> Result<(), Failure> {
    if unoptimised && parameters > LARGE {
        return Err(Failure::new(
            Stage::Prepare,
            FailureKind::Unoptimised,
            format!(
                "this is an unoptimised build, and the model has {} parameters",
                predict::grouped(parameters)
            ),
            "run `cargo test --release`",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unoptimised_build_refuses_the_primary_models() {
        for repo in known::repositories() {
            let config = known::config(repo).expect("embedded").expect("sound");
            let parameters = modelgate_model::parameters(&config);
            let failure = refuse_large(parameters, true).expect_err("refused");
            assert_eq!(failure.kind, FailureKind::Unoptimised);
            assert!(failure.hint.contains("--release"), "{failure:?}");
            assert_eq!(refuse_large(parameters, false), Ok(()));
        }
        assert_eq!(refuse_large(2_623_744, true), Ok(()));
    }
}

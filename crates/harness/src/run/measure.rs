//! One model, from its job to its measurement: place, prepare, acquire, admit, supervise. Each step
//! returns a value, and the measurement consists of the values of the completed steps.

use super::forecast::Forecast;
use super::placement::{ChosenGpuError, Placement, Placing};
use crate::acquire::{self, AcquireError, AcquireOptions, OpenedModel, ReadyModel, read_config};
use crate::admission::{Admission, DeviceCapacity, LoadSpec, Refusal, predict};
use crate::host::Host;
use crate::measurement::{Measurement, MeasurementParts, Supervised};
use crate::nvidia::{self, Assigned, GpuError, Readings};
use crate::plan::ModelJob;
use crate::progress::ModelProgress;
use crate::reportable::BoxedReportable;
use crate::settings::Settings;
use crate::signal::Interrupt;
use crate::supervise::{Gpus, Limits, WorkerInput, supervise};
use crate::workers::{BuiltWorker, Workers, engine_of};
use modelgate_model::Config;
use modelgate_protocol::{Device, Event, Finite, PROTOCOL_VERSION, Request};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The inputs that all measurements of a run share.
pub struct RunContext<'a> {
    /// The settings of the run.
    pub settings: &'a Settings,
    /// The host of the run.
    pub host: &'a Host,
    /// The worker programs.
    pub workers: &'a Workers,
    /// The source of readings of the GPUs.
    pub readings: &'a Arc<dyn Readings>,
    /// The folder for data that outlives a run.
    pub scratch: &'a Path,
    /// The signals that the harness received.
    pub interrupt: &'a Interrupt,
}

/// Measures the model of `job`. Errors become part of the measurement.
pub fn measure(job: &ModelJob, run: &RunContext<'_>) -> Measurement {
    let mut parts = MeasurementParts::default();
    match measure_parts(job, run, &mut parts) {
        Ok(supervised) => {
            let prediction = supervised.prediction.clone().or_else(|| parts.prediction.clone());
            parts.supervised = Some(Supervised { prediction, ..supervised });
        }
        Err(reason) => parts.refused = Some(reason.to_failure()),
    }
    Measurement::from_parts(parts)
}

/// Measures the model of `job`, and adds the values of the completed steps to `parts`. The model is
/// placed, and admitted or refused, as soon as its shapes are known, which is before its weights are
/// downloaded. Only GGUF files are placed afterwards.
fn measure_parts(
    job: &ModelJob,
    run: &RunContext<'_>,
    parts: &mut MeasurementParts,
) -> Result<Supervised, BoxedReportable> {
    let placing = Placing { settings: run.settings, host: run.host };
    let early = placing.before_files(job)?;
    let known = job.known_config();
    let prepared =
        early.map(|placement| prepare(job, run, placement, known.as_ref(), parts)).transpose()?;

    let options = AcquireOptions {
        settings: run.settings,
        scratch: run.scratch,
        interrupt: run.interrupt,
        verify: false,
    };
    let opening = Instant::now();
    let opened = open(job, &options);
    let open_time = opening.elapsed();
    parts.acquire_s = Some(Finite::seconds(open_time));
    let (opened, config) = opened?;
    let (text, config) = config.unzip();
    parts.config = text;
    let prepared = match (prepared, &config) {
        (Some(prepared), Some(config)) => {
            let spec = job.load_spec(config.clone(), &prepared.devices, None);
            parts.prediction = Some(predict(&spec));
            prepared.admit(&spec, run.settings.vram_limit)?;
            Some(prepared)
        }
        (None, Some(config)) => {
            let placement = placing.of_config(job, config.clone())?;
            Some(prepare(job, run, placement, Some(config), parts)?)
        }
        (prepared, None) => prepared,
    };

    let finishing = Instant::now();
    let ready = opened.finish();
    parts.acquire_s = Some(Finite::seconds(open_time + finishing.elapsed()));
    let ready = ready?;
    parts.acquired = Some(ready.acquired.clone());
    let prepared = match prepared {
        Some(prepared) => prepared,
        None => prepare(job, run, placing.of_files(job, &ready)?, None, parts)?,
    };
    let spec = config.map(|config| job.load_spec(config, &prepared.devices, None));
    Ok(run_worker(job, run, prepared, &ready, spec)?)
}

/// Opens the files of the model, and reads its config. The config is `None` for GGUF files.
fn open(
    job: &ModelJob,
    options: &AcquireOptions<'_>,
) -> Result<(OpenedModel, Option<(String, Config)>), AcquireError> {
    let opened = acquire::open(job, options)?;
    let config = opened.config().map(read_config).transpose()?;
    Ok((opened, config))
}

/// A model whose devices and worker are known.
struct Prepared {
    /// The devices.
    devices: Vec<Device>,
    /// The worker program.
    built: BuiltWorker,
    /// The GPUs among the devices.
    assigned: Vec<Assigned>,
    /// The limits that decide whether the load is admitted.
    admission: Admission,
    /// The text whose perplexity is measured. `None` for a synthetic model.
    text: Option<String>,
}

impl Prepared {
    /// Admits a load before the memory in use on its GPUs is known.
    fn admit(&self, spec: &LoadSpec, limit: Option<u64>) -> Result<(), Refusal> {
        self.admission.admit(spec, &unused_rooms(&self.assigned, limit))
    }
}

/// Returns the memory of GPUs whose memory in use is not known yet, as if no process used them.
fn unused_rooms(assigned: &[Assigned], limit: Option<u64>) -> Vec<DeviceCapacity> {
    let capacity = |Assigned { gpu, .. }: &Assigned| DeviceCapacity {
        total: gpu.vram_bytes,
        others: 0,
        limit,
        baseline: None,
    };
    assigned.iter().map(capacity).collect()
}

/// Finds the GPUs and the worker for a placement. Refuses a load that cannot fit, if its config is
/// known.
fn prepare(
    job: &ModelJob,
    run: &RunContext<'_>,
    placement: Placement,
    config: Option<&Config>,
    parts: &mut MeasurementParts,
) -> Result<Prepared, BoxedReportable> {
    let settings = run.settings;
    let Placement { devices, reason } = placement;
    parts.requested_devices.clone_from(&devices);
    parts.device_reason = reason;
    let spec = config.map(|config| job.load_spec(config.clone(), &devices, None));
    parts.prediction = spec.as_ref().map(predict);
    let visible = settings.visible_devices.as_deref();
    let assigned = nvidia::assign(&devices, &job.spec.id, run.host.gpus(), visible)?;
    let admission = Admission {
        bounds: job.spec.expect.memory,
        host_memory: run.host.memory_limit(),
        // a worker that the user names can be optimised even if the harness is not
        debug_build: cfg!(debug_assertions) && settings.worker.named.is_none(),
    };
    if let Some(spec) = &spec {
        admission.admit(spec, &unused_rooms(&assigned, settings.vram_limit))?;
    }
    let could_use_cpu = job.named_devices().is_none()
        && settings.device.is_none()
        && job.spec.expect.memory.vram.is_none()
        && !assigned.is_empty();
    let built = find_worker(run, &assigned).map_err(|error| match could_use_cpu {
        true => ChosenGpuError(error).into(),
        false => error,
    })?;
    let text = job.text.clone()?.map(|text| text.text);
    Ok(Prepared { devices, built, assigned, admission, text })
}

/// Finds the worker for the GPUs of a model, and checks that it supports them.
fn find_worker(
    run: &RunContext<'_>,
    assigned: &[Assigned],
) -> Result<BuiltWorker, BoxedReportable> {
    let built = run.workers.for_gpus(assigned)?;
    if !assigned.is_empty() {
        let engine = engine_of(&built, &run.settings.worker.variables, run.interrupt)?;
        nvidia::check_worker(&engine, &built.program, assigned)?;
    }
    Ok(built)
}

/// Runs the worker, while no other run measures on its GPUs.
fn run_worker(
    job: &ModelJob,
    run: &RunContext<'_>,
    prepared: Prepared,
    ready: &ReadyModel,
    spec: Option<LoadSpec>,
) -> Result<Supervised, GpuError> {
    let Prepared { devices, built, assigned, admission, text } = prepared;
    let model = &job.spec;
    let config = spec.as_ref().map(|spec| &spec.config);
    let request = Request {
        protocol: PROTOCOL_VERSION,
        model: model.id.clone(),
        files: ready.files.clone(),
        evidence: model.weights.evidence(),
        quantization: model.quantization,
        devices: nvidia::shown(&devices),
        device_limit: run.settings.vram_limit,
        context: model.context,
        generations: job.requests.generations(config),
        perplexity_text: text,
    };
    let folder = Path::new(nvidia::FOLDER);
    let _locks = nvidia::lock_gpus(folder, &assigned, &model.id, model.stall, run.interrupt)?;
    let gpus = Gpus::read(assigned, Arc::clone(run.readings))?;
    let mut progress = ModelProgress::new(&model.title());
    let limits =
        Limits { deadline: model.deadline, stall: model.stall, interrupt: run.interrupt.clone() };
    let file_bytes = ready.acquired.files.iter().map(|file| file.bytes).sum();
    let mut forecast = Forecast {
        job,
        admission: &admission,
        cores: run.host.cores,
        devices: &devices,
        gpus: &gpus,
        limit: run.settings.vram_limit,
        // with a config from the files, the size of the files is not needed
        file_bytes: spec.is_none().then_some(file_bytes),
        capacities: vec![None; gpus.assigned.len()],
        spec,
    };
    let mut watch = |event: &Event| {
        progress.event(event);
        forecast.observe(event)
    };
    let job = WorkerInput {
        built: &built,
        inherited: &run.settings.worker.variables,
        request: &request,
        gpus: &gpus,
        limits: &limits,
    };
    let supervised = supervise(&job, &mut watch);
    Ok(Supervised { prediction: forecast.prediction(), ..supervised })
}

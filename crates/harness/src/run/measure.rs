//! One model, from its job to its measurement: prepare, acquire, admit, supervise. Each step
//! returns a value, and the measurement consists of the values of the completed steps.

use super::forecast::Forecast;
use crate::acquire::{self, AcquireOptions, ReadyModel, read_config};
use crate::admission::{Admission, DeviceCapacity, LoadSpec, predict};
use crate::host::Host;
use crate::measurement::{Measurement, MeasurementParts, Supervised};
use crate::nvidia::{self, Assigned, GpuError, Readings};
use crate::plan::ModelJob;
use crate::progress::ModelProgress;
use crate::reportable::{BoxedReportable, Reportable};
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
    let devices = job.devices(run.settings.default_device);
    let known = job.known_config().map(|config| job.load_spec(config, &devices, None));
    let parts = MeasurementParts {
        requested_devices: devices.clone(),
        prediction: known.as_ref().map(predict),
        ..MeasurementParts::default()
    };
    let refused = |parts: MeasurementParts, reason: &dyn Reportable| {
        Measurement::from_parts(MeasurementParts { refused: Some(reason.to_failure()), ..parts })
    };
    let prepared = match prepare(job, run, &devices, known.as_ref()) {
        Ok(prepared) => prepared,
        Err(reason) => return refused(parts, &*reason),
    };
    let acquisition = acquire(job, run, &devices, &prepared);
    let (text, config) = acquisition.config.unzip();
    let spec = config.map(|config| job.load_spec(config, &devices, None));
    let parts = MeasurementParts {
        config: text,
        prediction: spec.as_ref().map(predict).or(parts.prediction),
        acquire_s: Some(acquisition.seconds),
        ..parts
    };
    let ready = match acquisition.result {
        Ok(ready) => ready,
        Err(reason) => return refused(parts, &*reason),
    };
    let parts = MeasurementParts { acquired: Some(ready.acquired.clone()), ..parts };
    match run_worker(job, run, &devices, prepared, &ready, spec) {
        Ok(supervised) => {
            let prediction = supervised.prediction.clone().or_else(|| parts.prediction.clone());
            let supervised = Supervised { prediction, ..supervised };
            Measurement::from_parts(MeasurementParts { supervised: Some(supervised), ..parts })
        }
        Err(error) => refused(parts, &error),
    }
}

/// The values that are known before the files are acquired.
struct Prepared {
    /// The worker program.
    built: BuiltWorker,
    /// The GPUs of the model.
    assigned: Vec<Assigned>,
    /// The limits that decide whether the load is admitted.
    admission: Admission,
    /// The text whose perplexity is measured. `None` for a synthetic model.
    text: Option<String>,
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

/// Finds the GPUs and the worker. Refuses a load that cannot fit, if its shapes are `known`.
fn prepare(
    job: &ModelJob,
    run: &RunContext<'_>,
    devices: &[Device],
    known: Option<&LoadSpec>,
) -> Result<Prepared, BoxedReportable> {
    let settings = run.settings;
    let visible = settings.visible_devices.as_deref();
    let assigned = nvidia::assign(devices, &job.spec.id, run.host.gpus(), visible)?;
    let admission = Admission {
        bounds: job.spec.expect.memory,
        host_memory: run.host.memory_limit(),
        // a worker that the user names can be optimised even if the harness is not
        debug_build: cfg!(debug_assertions) && settings.worker.named.is_none(),
    };
    if let Some(spec) = known {
        admission.admit(spec, &unused_rooms(&assigned, settings.vram_limit))?;
    }
    let built = run.workers.for_gpus(&assigned)?;
    if !assigned.is_empty() {
        let engine = engine_of(&built, &settings.worker.variables, run.interrupt)?;
        nvidia::check_worker(&engine, &built.program, &assigned)?;
    }
    let text = job.text.clone()?.map(|text| text.text);
    Ok(Prepared { built, assigned, admission, text })
}

/// The result of acquiring the files, as far as it succeeded.
struct Acquisition {
    /// The text of the config, and the config. `None` if the model has no config file.
    config: Option<(String, Config)>,
    /// The duration in seconds.
    seconds: Finite,
    /// The acquired files, or the reason why the model is refused.
    result: Result<ReadyModel, BoxedReportable>,
}

/// Acquires the files of the model. The model is admitted or refused before its weights are
/// downloaded.
fn acquire(
    job: &ModelJob,
    run: &RunContext<'_>,
    devices: &[Device],
    prepared: &Prepared,
) -> Acquisition {
    let started = Instant::now();
    let ended = |config, result| Acquisition {
        config,
        seconds: Finite::seconds(started.elapsed()),
        result,
    };
    let options = AcquireOptions {
        settings: run.settings,
        scratch: run.scratch,
        interrupt: run.interrupt,
        verify: false,
    };
    let opened = match acquire::open(job, &options) {
        Ok(opened) => opened,
        Err(error) => return ended(None, Err(error.into())),
    };
    let config = match opened.config().map(read_config).transpose() {
        Ok(config) => config,
        Err(error) => return ended(None, Err(error.into())),
    };
    let admitted = config.as_ref().map_or(Ok(()), |(_, config)| {
        let spec = job.load_spec(config.clone(), devices, None);
        prepared.admission.admit(&spec, &unused_rooms(&prepared.assigned, run.settings.vram_limit))
    });
    match admitted {
        Ok(()) => ended(config, opened.finish().map_err(BoxedReportable::from)),
        Err(refusal) => ended(config, Err(refusal.into())),
    }
}

/// Runs the worker, while no other run measures on its GPUs.
fn run_worker(
    job: &ModelJob,
    run: &RunContext<'_>,
    devices: &[Device],
    prepared: Prepared,
    ready: &ReadyModel,
    spec: Option<LoadSpec>,
) -> Result<Supervised, GpuError> {
    let Prepared { built, assigned, admission, text } = prepared;
    let model = &job.spec;
    let config = spec.as_ref().map(|spec| &spec.config);
    let request = Request {
        protocol: PROTOCOL_VERSION,
        model: model.id.clone(),
        files: ready.files.clone(),
        evidence: model.weights.evidence(),
        quantization: model.quantization,
        devices: nvidia::shown(devices),
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
        devices,
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

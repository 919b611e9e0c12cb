//! One model from its entry in the manifest to its measurement: prepare, acquire, worker.

use crate::acquire;
use crate::check::{generation_requests, perplexity_text};
use crate::env::{self, Environment};
use crate::host::Host;
use crate::manifest::{DeviceChoice, Manifest, Model, Source, parse_device};
use crate::progress::ModelProgress;
use crate::signal::Interrupt;
use crate::worker::{self, BuiltWorker, Limits};
use crate::workers::Workers;
use crate::{known, predict};
use modelgate_model::{Config, ConfigError};
use modelgate_protocol::{
    Device, Event, Failure, FailureKind, Finite, Measurement, ModelFiles, Outcome,
    PROTOCOL_VERSION, Prediction, Request, Stage,
};
use std::path::Path;
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
    /// A folder for what lives as long as the program's version.
    pub scratch: &'a Path,
    /// Signals to the harness.
    pub interrupt: &'a Interrupt,
}

/// Measures `model`. Never fails: what goes wrong is part of the measurement.
pub fn measure(model: &Model, surroundings: &Surroundings<'_>) -> Measurement {
    let mut measurement = Measurement::empty();
    let mut progress = ModelProgress::new(&model.title());
    match prepare(model, surroundings, &mut measurement) {
        Ok((built, request)) => {
            let limits = Limits {
                deadline: model.deadline,
                stall: model.stall,
                interrupt: surroundings.interrupt.clone(),
            };
            // what the files say themselves needs no word of the worker
            let unforeseen = request.files.config.is_none();
            let file_bytes = measurement.files.iter().map(|file| file.bytes).sum();
            let mut told = None;
            let mut watch = |event: &Event| {
                progress.event(event);
                if let Event::Model { config: Some(config), .. } = event
                    && unforeseen
                {
                    told =
                        Some(foresee(config, model, &request.devices, file_bytes, surroundings)?);
                }
                Ok(())
            };
            worker::run(&built, &request, &limits, &mut measurement, &mut watch);
            if let Some(prediction) = told {
                if let Some(host) = &mut measurement.memory.host {
                    host.predicted_peak = Some(prediction.host_peak);
                }
                measurement.memory.prediction = Some(prediction);
            }
        }
        Err(failure) => {
            measurement.outcome = match failure.stage {
                Stage::Acquire => Outcome::NotAcquired,
                _ => Outcome::Failed,
            };
            measurement.failure = Some(failure);
        }
    }
    measurement
}

/// The prediction for a model whose config only the worker could read.
fn foresee(
    config: &str,
    model: &Model,
    devices: &[Device],
    file_bytes: u64,
    surroundings: &Surroundings<'_>,
) -> Result<Prediction, Failure> {
    let config = Config::from_json(config).map_err(|error| {
        Failure::new(
            Stage::Load,
            FailureKind::Protocol,
            format!("the worker describes the model by a config that cannot be used: {error}"),
            "a defect of the engine",
        )
    })?;
    refuse_unoptimised(&config, surroundings)?;
    refuse_impossible(&config, model, devices, Some(file_bytes))?;
    Ok(predict::predict(&config, model, devices, Some(file_bytes)))
}

fn refuse_impossible(
    config: &Config,
    model: &Model,
    devices: &[Device],
    file_bytes: Option<u64>,
) -> Result<(), Failure> {
    match predict::impossible(config, model, &model.expect, devices, file_bytes) {
        None => Ok(()),
        Some(predict::Impossible { message, hint }) => {
            Err(Failure::new(Stage::Prepare, FailureKind::Impossible, message, hint))
        }
    }
}

/// All that comes before the worker.
fn prepare(
    model: &Model,
    surroundings: &Surroundings<'_>,
    measurement: &mut Measurement,
) -> Result<(BuiltWorker, Request), Failure> {
    let devices = devices(model, surroundings.environment)?;
    measurement.requested_devices = devices.iter().map(Device::to_string).collect();
    if let Source::Hub { repo, .. } = &model.source
        && let Some(Ok(config)) = known::config(repo)
    {
        measurement.memory.prediction = Some(predict::predict(&config, model, &devices, None));
        refuse_unoptimised(&config, surroundings)?;
    }
    require(&devices, model, surroundings.host)?;
    let built = surroundings.workers.for_devices(&devices, surroundings.host)?;
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
    let acquired = acquire::acquire(model, surroundings.manifest, surroundings.scratch)?;
    measurement.acquire_s = Some(Finite::seconds(began.elapsed()));
    measurement.files = acquired.seen;
    measurement.commit = acquired.commit;
    measurement.downloaded_bytes = acquired.downloaded_bytes;
    let config = config(&acquired.files)?;
    if let Some((text, config)) = &config {
        measurement.config = Some(text.clone());
        measurement.memory.prediction = Some(predict::predict(config, model, &devices, None));
        refuse_unoptimised(config, surroundings)?;
        refuse_impossible(config, model, &devices, None)?;
    }
    let request = Request {
        protocol: PROTOCOL_VERSION,
        model: model.id.clone(),
        files: acquired.files,
        evidence: model.weights.evidence(),
        quantization: model.quantization,
        devices,
        device_limit: None,
        context: model.context,
        generations: generation_requests(model, config.as_ref().map(|(_, config)| config)),
        perplexity_text: text,
    };
    Ok((built, request))
}

/// The devices that the model is to live on.
pub(crate) fn devices(model: &Model, environment: &Environment) -> Result<Vec<Device>, Failure> {
    match &model.device {
        DeviceChoice::Listed(devices) => Ok(devices.clone()),
        DeviceChoice::Auto => Ok(vec![automatic(environment)?]),
    }
}

/// Refuses devices that the host does not have.
fn require(devices: &[Device], model: &Model, host: &Host) -> Result<(), Failure> {
    let count = host.gpus.len();
    let missing =
        |device: &&Device| matches!(device, Device::Cuda(ordinal) if *ordinal as usize >= count);
    let Some(device) = devices.iter().find(missing) else {
        return Ok(());
    };
    let found = match &host.no_gpu_reason {
        Some(reason) => reason.clone(),
        None => format!("the host has {count} of them"),
    };
    Err(Failure::new(
        Stage::Prepare,
        FailureKind::NoDevice,
        format!("{} needs the GPU {device}, and there is none here: {found}", model.id),
        "run on a host with an NVIDIA GPU and its driver, or change `device` in the manifest",
    ))
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

/// The model's config and its text, where it has a file of it.
fn config(files: &ModelFiles) -> Result<Option<(String, Config)>, Failure> {
    let Some(path) = &files.config else {
        return Ok(None);
    };
    let failure = |kind, message: String, hint: &str| {
        Failure::new(Stage::Load, kind, format!("{}: {message}", path.display()), hint)
    };
    let text = acquire::read_small(path).map_err(|error| {
        failure(FailureKind::Io, error.to_string(), "check the file, its permissions and the disk")
    })?;
    match Config::from_json(&text) {
        Ok(config) => Ok(Some((text, config))),
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

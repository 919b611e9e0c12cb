//! Combines the parts that the stages of the flow return into a measurement.

use super::companion::Companion;
use super::headers::Headers;
use super::measurement::{Measurement, Phase};
use super::memory::{DeviceMemory, HostMemory, Memory, Timeline};
use super::outcome::{Outcome, WorkerExit};
use super::tensors::Tensors;
use crate::admission::Prediction;
use modelgate_hub::FileRecord;
use modelgate_protocol::{
    Activity, Agreement, Ceiling, Device, DeviceRecord, Engine, Failure, FailureKind, Finite,
    Generation, Omitted, Perplexity, Stage, Tensor,
};

/// The values known at the end of a measurement. Stages that were not reached are `None`.
#[derive(Debug, Clone, Default)]
pub struct MeasurementParts {
    /// The requested devices.
    pub requested_devices: Vec<Device>,
    /// Why these devices were chosen. `None` if the manifest names them, or if no device is suitable.
    pub device_reason: Option<String>,
    /// The predicted memory. The prediction of a supervised worker replaces it.
    pub prediction: Option<Prediction>,
    /// The text of the model's `config.json`.
    pub config: Option<String>,
    /// Seconds of acquiring, whether it succeeded or not.
    pub acquire_s: Option<Finite>,
    /// The files of the model.
    pub acquired: Option<Acquired>,
    /// The record of the worker.
    pub supervised: Option<Supervised>,
    /// The failure that prevented the start of the worker.
    pub refused: Option<Failure>,
}

/// The files of a model, for the report.
#[derive(Debug, Clone, Default)]
pub struct Acquired {
    /// The weight files.
    pub files: Vec<FileRecord>,
    /// The commit that a hub revision resolved to.
    pub commit: Option<String>,
    /// The number of bytes that were downloaded in this run.
    pub downloaded_bytes: u64,
    /// Notes on how the files were obtained.
    pub notes: Vec<String>,
    /// The small files that describe the model.
    pub companions: Vec<Companion>,
    /// The headers of the weight files. `None` without weight files.
    pub headers: Option<Headers>,
}

/// A worker from its start to its end.
#[derive(Debug, Clone)]
pub struct Supervised {
    /// The outcome of the measurement.
    pub outcome: Outcome,
    /// The failure that ended the measurement. `None` if the worker completed.
    pub failure: Option<Failure>,
    /// The events of the worker, combined.
    pub record: WorkerRecord,
    /// The memory of the worker as the harness measured it.
    pub memory: ObservedMemory,
    /// The predicted memory, completed with the reports of the worker.
    pub prediction: Option<Prediction>,
    /// How the process ended. `None` if it could not be started.
    pub exit: Option<WorkerExit>,
    /// The last part of its standard output and standard error.
    pub output: String,
}

/// The events of a worker, combined.
#[derive(Debug, Clone, Default)]
pub struct WorkerRecord {
    /// The engine of the worker.
    pub engine: Option<Engine>,
    /// The architecture of the model.
    pub architecture: Option<String>,
    /// The model in the form of a `config.json`, if only the worker could read it.
    pub config: Option<String>,
    /// The number of loaded weights.
    pub parameters: Option<u64>,
    /// The number of positions of the KV cache. `None` before the worker reports it.
    pub context: Option<u32>,
    /// The loaded parts of the model.
    pub parts: Vec<String>,
    /// The devices of the model.
    pub devices: Vec<Device>,
    /// The phases from spawn to reaping, without gaps.
    pub phases: Vec<Phase>,
    /// The activities of the worker, which may overlap.
    pub activities: Vec<Activity>,
    /// The limits of the hardware, measured by the worker.
    pub ceilings: Vec<Ceiling>,
    /// The devices that were opened.
    pub opened_devices: Vec<DeviceRecord>,
    /// Seconds from the spawn until the last tensor was resident.
    pub load_s: Option<Finite>,
    /// The resident tensors.
    pub tensors: Vec<Tensor>,
    /// The tensors in the files that the engine knowingly left out.
    pub omitted: Vec<Omitted>,
    /// The remarks of the worker.
    pub notes: Vec<String>,
    /// The answers to the questions, in their order.
    pub generations: Vec<Generation>,
    /// The perplexity of the text.
    pub perplexity: Option<Perplexity>,
    /// The agreement with the CPU.
    pub agreement: Option<Agreement>,
}

/// The memory of a worker as the harness measured it.
#[derive(Debug, Clone, Default)]
pub struct ObservedMemory {
    /// The memory of each device.
    pub devices: Vec<DeviceMemory>,
    /// The host memory of the process.
    pub host: Option<HostMemory>,
    /// The samples over time.
    pub timeline: Timeline,
}

impl Measurement {
    /// Combines `parts` into a measurement.
    pub fn from_parts(parts: MeasurementParts) -> Measurement {
        let acquired = parts.acquired.unwrap_or_default();
        let before_worker = Measurement {
            config: parts.config,
            commit: acquired.commit,
            requested_devices: parts.requested_devices,
            device_reason: parts.device_reason,
            files: acquired.files,
            downloaded_bytes: acquired.downloaded_bytes,
            notes: acquired.notes,
            companions: acquired.companions,
            headers: acquired.headers,
            acquire_s: parts.acquire_s,
            memory: Memory { prediction: parts.prediction, ..Memory::default() },
            ..Measurement::empty()
        };
        match parts.supervised {
            None => Measurement {
                outcome: parts.refused.as_ref().map_or(Outcome::NotRun, refused_outcome),
                failure: parts.refused,
                ..before_worker
            },
            Some(supervised) => with_worker(before_worker, supervised),
        }
    }
}

fn refused_outcome(failure: &Failure) -> Outcome {
    match (failure.kind, failure.stage) {
        (FailureKind::Interrupted, _) => Outcome::Interrupted,
        (_, Stage::Acquire) => Outcome::NotAcquired,
        _ => Outcome::Failed,
    }
}

fn with_worker(before: Measurement, supervised: Supervised) -> Measurement {
    let Supervised { outcome, failure, record, memory, prediction, exit, output } = supervised;
    Measurement {
        outcome,
        failure,
        engine: record.engine,
        architecture: record.architecture,
        config: before.config.or(record.config),
        notes: before.notes.into_iter().chain(record.notes).collect(),
        parameters: record.parameters,
        context: record.context,
        parts: record.parts,
        devices: record.devices,
        phases: record.phases,
        activities: record.activities,
        ceilings: record.ceilings,
        opened_devices: record.opened_devices,
        load_s: record.load_s,
        memory: with_prediction(memory, prediction, &before.requested_devices),
        tensors: Tensors::of(record.tensors, record.omitted),
        generations: record.generations,
        perplexity: record.perplexity,
        agreement: record.agreement,
        worker_exit: exit,
        worker_stderr: output,
        ..before
    }
}

fn with_prediction(
    observed: ObservedMemory,
    prediction: Option<Prediction>,
    requested: &[Device],
) -> Memory {
    let ObservedMemory { mut devices, host, timeline } = observed;
    // the distribution of a model over several devices by an engine is unknown here
    if let ([device], false, Some(prediction)) =
        (&mut devices[..], requested.contains(&Device::Cpu), &prediction)
    {
        device.predicted_peak = Some(prediction.device_peak);
    }
    let host = host.map(|host| HostMemory {
        predicted_peak: prediction.as_ref().map(|prediction| prediction.host_peak),
        ..host
    });
    Memory { devices, host, prediction, timeline }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(stage: Stage, kind: FailureKind) -> Outcome {
        let failure = Failure::new(stage, kind, "a message", "a hint");
        Measurement::from_parts(MeasurementParts {
            refused: Some(failure),
            ..MeasurementParts::default()
        })
        .outcome
    }

    #[test]
    fn a_refusal_has_the_outcome_of_its_stage() {
        assert_eq!(refused(Stage::Prepare, FailureKind::DeviceNotFound), Outcome::Failed);
        assert_eq!(refused(Stage::Acquire, FailureKind::NotFound), Outcome::NotAcquired);
        assert_eq!(refused(Stage::Acquire, FailureKind::Interrupted), Outcome::Interrupted);
        assert_eq!(Measurement::from_parts(MeasurementParts::default()).outcome, Outcome::NotRun);
    }
}

//! From the parts that the stages of the flow return to a measurement.

use super::measurement::{Measurement, Phase};
use super::memory::{DeviceMemory, HostMemory, Memory, Timeline};
use super::outcome::{Outcome, WorkerExit};
use super::tensors::Tensors;
use crate::admission::Prediction;
use modelgate_hub::FileSeen;
use modelgate_protocol::{
    Activity, Agreement, Ceiling, Device, DeviceSeen, Engine, Failure, FailureKind, Finite,
    Generation, Omitted, Perplexity, Stage, Tensor,
};

/// What is known of a model when its measurement ends. Stages that were not reached are `None`.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// The devices that the model was to live on.
    pub requested_devices: Vec<Device>,
    /// The memory that the model was predicted to take; what a supervised worker showed replaces it.
    pub prediction: Option<Prediction>,
    /// The text of the model's `config.json`.
    pub config: Option<String>,
    /// Seconds that acquiring took, whether it succeeded or not.
    pub acquire_s: Option<Finite>,
    /// The model's files.
    pub acquired: Option<Acquired>,
    /// What was seen of the worker.
    pub supervised: Option<Supervised>,
    /// What kept the worker from being started.
    pub refused: Option<Failure>,
}

/// The files of a model, for the report.
#[derive(Debug, Clone, Default)]
pub struct Acquired {
    /// The weight files.
    pub files: Vec<FileSeen>,
    /// The commit that a hub revision resolved to.
    pub commit: Option<String>,
    /// Bytes that were downloaded.
    pub downloaded_bytes: u64,
    /// What a reader should know of how the files were obtained.
    pub notes: Vec<String>,
}

/// A worker from its start to its end.
#[derive(Debug, Clone)]
pub struct Supervised {
    /// How far it came.
    pub outcome: Outcome,
    /// Why it came no further.
    pub failure: Option<Failure>,
    /// What it reported.
    pub record: WorkerRecord,
    /// The memory that it took, as it was seen from outside.
    pub memory: ObservedMemory,
    /// The predicted memory, completed by what the worker showed.
    pub prediction: Option<Prediction>,
    /// How its process ended; `None` if it could not be started.
    pub exit: Option<WorkerExit>,
    /// The end of what it printed.
    pub output: String,
}

/// What a worker reported, event by event.
#[derive(Debug, Clone, Default)]
pub struct WorkerRecord {
    /// The engine inside it.
    pub engine: Option<Engine>,
    /// The model's architecture.
    pub architecture: Option<String>,
    /// The model in the words of a `config.json`, if only the worker could read it.
    pub config: Option<String>,
    /// Weights that are loaded.
    pub parameters: Option<u64>,
    /// Positions of the KV cache.
    pub context: Option<u32>,
    /// Parts of the model that are loaded.
    pub parts: Vec<String>,
    /// Devices that the model lives on.
    pub devices: Vec<Device>,
    /// Phases from spawn to reaping, contiguous.
    pub phases: Vec<Phase>,
    /// What was busy.
    pub activities: Vec<Activity>,
    /// What the hardware can do at most.
    pub ceilings: Vec<Ceiling>,
    /// The devices that were opened.
    pub devices_seen: Vec<DeviceSeen>,
    /// Seconds from spawn until the last tensor was resident.
    pub load_s: Option<Finite>,
    /// The resident tensors.
    pub tensors: Vec<Tensor>,
    /// Tensors that were left out.
    pub omitted: Vec<Omitted>,
    /// Answers.
    pub generations: Vec<Generation>,
    /// Perplexity of the text.
    pub perplexity: Option<Perplexity>,
    /// Agreement with the CPU.
    pub agreement: Option<Agreement>,
}

/// The memory that a worker took, as it was seen from outside.
#[derive(Debug, Clone, Default)]
pub struct ObservedMemory {
    /// Each device.
    pub devices: Vec<DeviceMemory>,
    /// The worker's process.
    pub host: Option<HostMemory>,
    /// Samples over time.
    pub timeline: Timeline,
}

impl Measurement {
    /// Returns the measurement that consists of `parts`.
    pub fn from_parts(parts: Parts) -> Measurement {
        let acquired = parts.acquired.unwrap_or_default();
        let before_worker = Measurement {
            config: parts.config,
            commit: acquired.commit,
            requested_devices: parts.requested_devices,
            files: acquired.files,
            downloaded_bytes: acquired.downloaded_bytes,
            notes: acquired.notes,
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
        parameters: record.parameters,
        context: record.context,
        parts: record.parts,
        devices: record.devices,
        phases: record.phases,
        activities: record.activities,
        ceilings: record.ceilings,
        devices_seen: record.devices_seen,
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
    // how an engine distributes a model over several devices is not known here
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
        let failure = Failure::new(stage, kind, "what", "how to fix it");
        Measurement::from_parts(Parts { refused: Some(failure), ..Parts::default() }).outcome
    }

    #[test]
    fn a_refusal_has_the_outcome_of_its_stage() {
        assert_eq!(refused(Stage::Prepare, FailureKind::NoDevice), Outcome::Failed);
        assert_eq!(refused(Stage::Acquire, FailureKind::NotFound), Outcome::NotAcquired);
        assert_eq!(refused(Stage::Acquire, FailureKind::Interrupted), Outcome::Interrupted);
        assert_eq!(Measurement::from_parts(Parts::default()).outcome, Outcome::NotRun);
    }
}

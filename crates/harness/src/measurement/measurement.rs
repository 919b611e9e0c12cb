//! The measurement of one model in one run: the only input of checks and reports.
//!
//! Integers are bytes or counts. Floats are seconds unless the comment of a field gives another
//! unit. Ratios are 0 to 1.

use super::companion::Companion;
use super::headers::Headers;
use super::memory::Memory;
use super::outcome::{Outcome, WorkerExit};
use super::tensors::Tensors;
use modelgate_hub::FileRecord;
use modelgate_protocol::{
    Activity, Agreement, Ceiling, Device, DeviceRecord, Engine, Failure, Finite, Generation,
    Perplexity, PhaseName,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The measurement of one model in one run. After a crash, it contains the values gathered until
/// then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measurement {
    /// The outcome of the measurement.
    pub outcome: Outcome,
    /// The failure that ended the measurement. `None` if the outcome is `measured`.
    pub failure: Option<Failure>,
    /// The engine that loaded the model. `None` if no worker reported one.
    pub engine: Option<Engine>,
    /// The architecture: `model_type` of a `config.json` or `general.architecture` of a GGUF file.
    /// `None` if no worker reported it.
    pub architecture: Option<String>,
    /// The model in the form of a `config.json`: the text of the file, or the conversion of GGUF
    /// metadata by the worker. The list of required tensors follows from it.
    pub config: Option<String>,
    /// The commit that a hub revision resolved to. `None` for a local model.
    pub commit: Option<String>,
    /// The number of loaded weights.
    pub parameters: Option<u64>,
    /// The number of positions of the KV cache.
    pub context: Option<u32>,
    /// The parts of the model that were loaded.
    pub parts: Vec<String>,
    /// The requested devices.
    pub requested_devices: Vec<Device>,
    /// Why these devices were chosen. `None` if the manifest names them, or if no device is suitable.
    #[serde(default)]
    pub device_reason: Option<String>,
    /// The devices that held the model.
    pub devices: Vec<Device>,
    /// The weight files.
    pub files: Vec<FileRecord>,
    /// The bytes that were downloaded in this run.
    pub downloaded_bytes: u64,
    /// Notes on how the files were obtained and read, for example that the hub did not answer, or
    /// that other programs read the files differently.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The files that were used in addition to the weight files, such as the config, the tokenizer
    /// and the chat template.
    #[serde(default)]
    pub companions: Vec<Companion>,
    /// The headers of the weight files, as the harness reads them. `None` if the model has no weight
    /// files, or if the measurement ended before they were read.
    #[serde(default)]
    pub headers: Option<Headers>,
    /// The phases from spawn to reaping, without gaps, by the monotonic clock of the harness.
    pub phases: Vec<Phase>,
    /// The activities, which may overlap.
    pub activities: Vec<Activity>,
    /// The limits of the hardware, measured by the same worker.
    pub ceilings: Vec<Ceiling>,
    /// The devices that were opened.
    #[serde(alias = "devices_seen")]
    pub opened_devices: Vec<DeviceRecord>,
    /// Seconds to locate, download and verify the files.
    pub acquire_s: Option<Finite>,
    /// Seconds from the spawn until the last tensor was resident and synchronised. `None` if the
    /// load did not complete.
    pub load_s: Option<Finite>,
    /// The memory of the model.
    pub memory: Memory,
    /// The resident tensors.
    pub tensors: Tensors,
    /// The answers to the questions, in their order.
    pub generations: Vec<Generation>,
    /// The perplexity of the built-in text or the text of the manifest. `None` if it was not
    /// measured.
    pub perplexity: Option<Perplexity>,
    /// The agreement of a prefix of the model on its device with the same prefix on the CPU. `None`
    /// if they were not compared.
    pub agreement: Option<Agreement>,
    /// How the worker process ended. `None` if none was started.
    pub worker_exit: Option<WorkerExit>,
    /// The last 64 KiB of standard output and standard error of the worker.
    pub worker_stderr: String,
}

impl Measurement {
    /// Returns whether a part of the model was not loaded: its files contain more tensors, or
    /// models of its kind have more in other files.
    pub fn is_partial(&self) -> bool {
        let architecture = self.architecture.as_deref().unwrap_or_default();
        !self.tensors.omitted.is_empty()
            || architecture == "qwen2vl"
            || architecture.starts_with("qwen2_5_omni")
    }

    /// Returns a measurement without any values.
    pub fn empty() -> Measurement {
        Measurement {
            outcome: Outcome::NotRun,
            failure: None,
            engine: None,
            architecture: None,
            config: None,
            commit: None,
            parameters: None,
            context: None,
            parts: Vec::new(),
            requested_devices: Vec::new(),
            device_reason: None,
            devices: Vec::new(),
            files: Vec::new(),
            downloaded_bytes: 0,
            notes: Vec::new(),
            companions: Vec::new(),
            headers: None,
            phases: Vec::new(),
            activities: Vec::new(),
            ceilings: Vec::new(),
            opened_devices: Vec::new(),
            acquire_s: None,
            load_s: None,
            memory: Memory::default(),
            tensors: Tensors::default(),
            generations: Vec::new(),
            perplexity: None,
            agreement: None,
            worker_exit: None,
            worker_stderr: String::new(),
        }
    }
}

/// A phase in the life of the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Phase {
    /// The name of the phase.
    pub name: PhaseName,
    /// Seconds from the spawn to the start of the phase.
    pub start_s: Finite,
    /// Seconds from the spawn to the end of the phase.
    pub end_s: Finite,
}

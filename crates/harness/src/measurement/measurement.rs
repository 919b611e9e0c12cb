//! Everything that was seen of one model in one run. Checks and reports read this and nothing else.
//!
//! Integers are bytes or counts, floats are seconds unless a field says otherwise, ratios are 0 to 1.

use super::memory::Memory;
use super::outcome::{Outcome, WorkerExit};
use super::tensors::Tensors;
use modelgate_hub::FileSeen;
use modelgate_protocol::{
    Activity, Agreement, Ceiling, Device, DeviceSeen, Engine, Failure, Finite, Generation,
    Perplexity, PhaseName,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything that was seen of one model in one run. A crash keeps what was gathered up to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measurement {
    /// How far it came.
    pub outcome: Outcome,
    /// Why it came no further; `None` if the outcome is `measured`.
    pub failure: Option<Failure>,
    /// Who loaded it; `None` if no worker spoke.
    pub engine: Option<Engine>,
    /// `model_type` or `general.architecture`.
    pub architecture: Option<String>,
    /// The model in the words of a `config.json`: the file's own text, or what the worker made of
    /// GGUF metadata. Which tensors must be there follows from it.
    pub config: Option<String>,
    /// The commit that a hub revision resolved to.
    pub commit: Option<String>,
    /// Weights that were loaded.
    pub parameters: Option<u64>,
    /// Positions of the KV cache.
    pub context: Option<u32>,
    /// Parts of the model that were loaded.
    pub parts: Vec<String>,
    /// Devices that it was to live on.
    pub requested_devices: Vec<Device>,
    /// Devices that it lived on.
    pub devices: Vec<Device>,
    /// Files it came from.
    pub files: Vec<FileSeen>,
    /// Bytes that were fetched in this run.
    pub downloaded_bytes: u64,
    /// What a reader should know of how the files were had, such as that the hub could not be asked.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Phases from spawn to reaping, contiguous, by the harness's monotonic clock.
    pub phases: Vec<Phase>,
    /// What was busy, which may overlap.
    pub activities: Vec<Activity>,
    /// What the hardware can do at most, measured by the same worker.
    pub ceilings: Vec<Ceiling>,
    /// The devices that were opened.
    pub devices_seen: Vec<DeviceSeen>,
    /// Seconds to turn the source into local files.
    pub acquire_s: Option<Finite>,
    /// Seconds from spawn until the last tensor was resident and synchronised; `None` if that
    /// never happened.
    pub load_s: Option<Finite>,
    /// What it took in memory.
    pub memory: Memory,
    /// Every tensor as it is resident.
    pub tensors: Tensors,
    /// Answers.
    pub generations: Vec<Generation>,
    /// Perplexity of the bundled or given text.
    pub perplexity: Option<Perplexity>,
    /// How well a prefix of the model on its device agrees with the same on the CPU; `None` if
    /// that was not compared.
    pub agreement: Option<Agreement>,
    /// How the worker's process ended; `None` if none was started.
    pub worker_exit: Option<WorkerExit>,
    /// The last 64 KiB that the worker wrote to standard output and standard error.
    pub worker_stderr: String,
}

impl Measurement {
    /// Whether a part of the model was not loaded: its files hold more, or it is of a kind that has
    /// more in other files.
    pub fn is_partial(&self) -> bool {
        let architecture = self.architecture.as_deref().unwrap_or_default();
        !self.tensors.omitted.is_empty()
            || architecture == "qwen2vl"
            || architecture.starts_with("qwen2_5_omni")
    }

    /// A measurement in which nothing has been seen yet.
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
            devices: Vec::new(),
            files: Vec::new(),
            downloaded_bytes: 0,
            notes: Vec::new(),
            phases: Vec::new(),
            activities: Vec::new(),
            ceilings: Vec::new(),
            devices_seen: Vec::new(),
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

/// A stretch of the worker's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Phase {
    /// Its name.
    pub name: PhaseName,
    /// Seconds from spawn to its begin.
    pub start_s: Finite,
    /// Seconds from spawn to its end.
    pub end_s: Finite,
}

//! What a worker tells while it works, one JSON object a line.

use crate::{
    Activity, Agreement, Ceiling, Device, DeviceSeen, Engine, Failure, Generation, Omitted,
    Perplexity, PoolMemory, Tensor,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One line on the worker's event channel.
///
/// The harness stamps each with its own monotonic clock as it arrives, so a worker needs none. An
/// event that the harness does not know is an error; a key that it does not know is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event: who is speaking.
    Hello {
        /// [`crate::PROTOCOL_VERSION`] of the worker.
        protocol: u32,
        /// The engine inside it.
        engine: Engine,
    },
    /// A phase begins; the one before it ends at the same instant.
    Phase {
        /// Its name.
        name: PhaseName,
    },
    /// Something advanced. Where none of these and no other event comes for the stall time, the
    /// worker is taken to hang.
    Progress(Progress),
    /// What the files say the model is.
    Model {
        /// `model_type` of its config, or `general.architecture` of its GGUF.
        architecture: String,
        /// Number of weights that are loaded.
        parameters: u64,
        /// Positions that the KV cache holds.
        context: u32,
        /// The model in the words of a `config.json`, as JSON text, where its files have none
        /// (GGUF); from it the harness predicts the memory that the model will take.
        #[serde(default)]
        config: Option<String>,
        /// The parts of the model that are loaded, such as `text`.
        parts: Vec<String>,
        /// The devices that it lives on.
        devices: Vec<Device>,
    },
    /// One tensor is resident.
    Tensor(Tensor),
    /// Tensors that the files hold and the engine knowingly leaves out.
    Omitted(Omitted),
    /// A running total of an activity; the last one of a name counts.
    Activity(Activity),
    /// A device is open, and all is there that is taken of it before the first weight.
    Device(DeviceSeen),
    /// Memory of one device as the worker itself sees it, now and then; one comes before `loaded`
    /// and one after all that the model did. In the phase `ceilings` none counts.
    DeviceMemory(PoolMemory),
    /// What the hardware can do at most, measured by this worker.
    Ceiling(Ceiling),
    /// The last tensor is resident and the devices are synchronised.
    Loaded,
    /// One answer, after it was generated twice.
    Generation(Generation),
    /// The perplexity of the text that was asked for.
    Perplexity(Perplexity),
    /// How well a prefix of the model on its device agrees with the same on the CPU.
    Agreement(Agreement),
    /// The worker cannot go on; it ends after this.
    Failure(Failure),
    /// All that was asked is done. The worker now waits for its standard input to close.
    Done,
}

/// Phases of a worker's life after its start, in order. Workers of other engines may add their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// From spawn until the worker says otherwise; never sent.
    Start,
    /// Devices are opened and contexts made.
    Device,
    /// Kernels are loaded, compiled by the driver where it has not done so before, and proved.
    Kernels,
    /// Weights are read, quantized and placed.
    Load,
    /// Tokenizer, template, first use of kernels.
    Warmup,
    /// Prompts are answered.
    Generate,
    /// The perplexity text is evaluated.
    Perplexity,
    /// A prefix of the model is evaluated on the CPU too.
    Agreement,
    /// What the hardware can do at most is measured, after the model is gone. What that takes of
    /// memory does not count.
    Ceilings,
    /// From `done` until the process is reaped; never sent.
    Unload,
    /// A phase of another engine, by its own name.
    #[serde(untagged)]
    Other(String),
}

impl PhaseName {
    /// The name as reports write it.
    pub fn name(&self) -> &str {
        match self {
            PhaseName::Start => "start",
            PhaseName::Device => "device",
            PhaseName::Kernels => "kernels",
            PhaseName::Load => "load",
            PhaseName::Warmup => "warmup",
            PhaseName::Generate => "generate",
            PhaseName::Perplexity => "perplexity",
            PhaseName::Agreement => "agreement",
            PhaseName::Ceilings => "ceilings",
            PhaseName::Unload => "unload",
            PhaseName::Other(name) => name,
        }
    }
}

/// How far the current phase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// What is counted.
    pub unit: ProgressUnit,
    /// How much is done.
    pub done: u64,
    /// How much there is.
    pub total: u64,
}

/// What progress counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProgressUnit {
    /// Bytes of the weight files.
    Bytes,
    /// Tokens.
    Tokens,
}

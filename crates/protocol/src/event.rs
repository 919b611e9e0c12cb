//! The events that a worker sends while it works, one JSON object per line.

use crate::{
    Activity, Agreement, Ceiling, Device, DeviceRecord, Engine, Failure, Generation, Omitted,
    Perplexity, PoolMemory, Tensor,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One line on the event channel of the worker.
///
/// The harness adds the time of arrival from its monotonic clock, so that a worker needs no clock.
/// An unknown event is an error; an unknown key is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event: the engine of the worker.
    Hello {
        /// [`crate::PROTOCOL_VERSION`] of the worker.
        protocol: u32,
        /// The engine.
        engine: Engine,
    },
    /// The start of a phase, which ends the previous phase.
    Phase {
        /// The name of the phase.
        name: PhaseName,
    },
    /// Progress. If neither this nor another event arrives within the `stall` time, the worker
    /// counts as hanging.
    Progress(Progress),
    /// The model that the files describe.
    Model {
        /// The `model_type` of the config, or the `general.architecture` of the GGUF file.
        architecture: String,
        /// The number of loaded weights.
        parameters: u64,
        /// The number of positions of the KV cache.
        context: u32,
        /// The model in the form of a `config.json`, as JSON text, if the files contain none
        /// (GGUF). The harness predicts the memory of the model from it.
        #[serde(default)]
        config: Option<String>,
        /// The loaded parts of the model, such as `text`.
        parts: Vec<String>,
        /// The devices of the model.
        devices: Vec<Device>,
    },
    /// A tensor is resident.
    Tensor(Tensor),
    /// Tensors in the files that the engine knowingly leaves out.
    Omitted(Omitted),
    /// A remark for the report, for example that other programs read the files differently.
    Note {
        /// The text: a clause without a full stop.
        text: String,
    },
    /// The running total of an activity. The last one with a name counts.
    Activity(Activity),
    /// A device is open, with everything that it needs before the first weight.
    Device(DeviceRecord),
    /// The memory of one device as the worker sees it, sent repeatedly: at least once before
    /// `loaded`, and once after the last use of the model. It does not count in the phase
    /// `ceilings`.
    DeviceMemory(PoolMemory),
    /// A limit of the hardware that this worker measured.
    Ceiling(Ceiling),
    /// The last tensor is resident, and the devices are synchronised.
    Loaded,
    /// An answer, after it was generated twice.
    Generation(Generation),
    /// The perplexity of the requested text.
    Perplexity(Perplexity),
    /// The agreement of a prefix of the model on its device with the same prefix on the CPU.
    Agreement(Agreement),
    /// The worker cannot continue. It ends after this event.
    Failure(Failure),
    /// All requests are completed. The worker waits until its standard input closes.
    Done,
}

/// The phases of a worker after its start, in order. Workers of other engines may add names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// From the spawn to the first phase of the worker; never sent.
    Start,
    /// Opening devices and creating contexts.
    Device,
    /// Loading kernels, compiling them in the driver if necessary, and testing them.
    Kernels,
    /// Reading, quantizing and placing weights.
    Load,
    /// The tokenizer, the chat template, and the first use of kernels.
    Warmup,
    /// Answering prompts.
    Generate,
    /// Evaluating the perplexity text.
    Perplexity,
    /// Evaluating a prefix of the model on the CPU for comparison.
    Agreement,
    /// Measuring the limits of the hardware, after the model was freed. The memory of this phase
    /// does not count.
    Ceilings,
    /// From the event `done` until the process is reaped; never sent.
    Unload,
    /// A phase of another engine, with its name.
    #[serde(untagged)]
    Other(String),
}

impl PhaseName {
    /// Returns the name in reports.
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

/// The progress of the current phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// The unit.
    pub unit: ProgressUnit,
    /// The completed amount.
    pub done: u64,
    /// The total amount.
    pub total: u64,
}

/// The unit of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProgressUnit {
    /// Bytes of the weight files.
    Bytes,
    /// Tokens.
    Tokens,
}

//! One model of a manifest, with its expectations.

use crate::admission::MemoryBounds;
use modelgate_protocol::{Device, Evidence, Message, Scheme};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// A model, with its expectations.
#[derive(Debug, Clone)]
pub struct Model {
    /// The id, distinct in its manifest: `[a-z0-9][a-z0-9._@-]*`.
    pub id: String,
    /// The source of the files.
    pub source: Source,
    /// A `tokenizer.json` or its folder, relative to the folder of the manifest. `None` for the
    /// tokenizer of the model.
    pub tokenizer: Option<PathBuf>,
    /// The origin of the weights.
    pub weights: WeightOrigin,
    /// The quantization of the load.
    pub quantization: Scheme,
    /// The devices that the model is loaded on.
    pub device: DeviceChoice,
    /// The number of positions of the KV cache. `None` for the default of the model.
    pub context: Option<u32>,
    /// The time after which the worker is ended.
    pub deadline: Duration,
    /// The time without progress after which the worker is ended.
    pub stall: Duration,
    /// The expectations of the checks. Missing values are derived.
    pub expect: Expect,
    /// The questions. Empty for the built-in questions, and for a synthetic model, which gets none.
    pub generations: Vec<Question>,
}

impl Model {
    /// Returns the id for display, with the word `synthetic` if the weights are random and the id
    /// does not show it.
    pub fn title(&self) -> String {
        title(&self.id, self.weights.evidence())
    }
}

/// Returns the id of a model for display, with the word `synthetic` if its weights are random and
/// the id does not show it.
pub fn title(id: &str, evidence: Evidence) -> String {
    match evidence {
        Evidence::Synthetic if !id.ends_with(SYNTHETIC_VARIANT) => format!("{id} (synthetic)"),
        _ => id.to_owned(),
    }
}

/// The suffix of the ids of synthetic variants, which only modelgate creates.
pub(super) const SYNTHETIC_VARIANT: &str = "@synthetic";

/// The origin of the weights of a model. It comes from the manifest, never from the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightOrigin {
    /// Trained weights from the files of the model.
    Files,
    /// Random weights from files with the shapes of the model.
    RandomFiles,
    /// Random weights that the worker makes in place from the config, without files.
    InPlace,
}

impl WeightOrigin {
    /// Returns whether measurements of these weights concern the trained or a synthetic model.
    pub fn evidence(self) -> Evidence {
        match self {
            WeightOrigin::Files => Evidence::Real,
            WeightOrigin::RandomFiles | WeightOrigin::InPlace => Evidence::Synthetic,
        }
    }
}

/// The source of the files of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A repository of the Hugging Face Hub.
    Hub {
        /// `owner/name`.
        repo: String,
        /// A branch, tag or commit.
        revision: String,
        /// A GGUF file in the repository. `None` for a safetensors model.
        file: Option<String>,
    },
    /// A folder in Hugging Face layout or a GGUF file. A relative path is resolved against the folder
    /// of the manifest.
    Local {
        /// The path in the manifest.
        path: PathBuf,
    },
}

impl Source {
    /// Returns the hub repository. `None` for a local model.
    pub fn repo(&self) -> Option<&str> {
        match self {
            Source::Hub { repo, .. } => Some(repo),
            Source::Local { .. } => None,
        }
    }

    /// Returns whether the source is a local GGUF file, by its name.
    pub fn is_gguf_file(&self) -> bool {
        matches!(self, Source::Local { path } if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")))
    }
}

/// The devices of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The device in `MODELGATE_DEVICE`; if it is not set, the device that suits the size of the
    /// model.
    Auto,
    /// These devices, in this order.
    Listed(Vec<Device>),
}

impl DeviceChoice {
    /// Returns whether the choice names a GPU.
    pub fn needs_gpu(&self) -> bool {
        matches!(self, DeviceChoice::Listed(list) if list.iter().any(|device| device.is_cuda()))
    }
}

/// The expectations of a model. `None` values are derived.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expect {
    /// The maximum load time.
    pub load_time: LoadTime,
    /// The ranges of peak device memory and peak private host memory.
    pub memory: MemoryBounds,
    /// The limit of the perplexity.
    pub perplexity: PerplexityBound,
}

/// The maximum load time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadTime {
    /// The maximum time from the spawn until the model is loaded, with local files.
    pub cached: Option<Duration>,
    /// The maximum time including the download, if files were downloaded.
    pub first: Option<Duration>,
}

/// The limit of the perplexity.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PerplexityBound {
    /// The maximum perplexity. `None` for the default.
    pub max: Option<f64>,
    /// The path of a text of the user, relative to the folder of the manifest. `None` for the
    /// built-in text.
    pub text: Option<PathBuf>,
}

/// A chat with its accepted answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name in the report, distinct in its model.
    pub name: String,
    /// The chat.
    pub messages: Vec<Message>,
    /// The maximum number of generated tokens.
    pub max_tokens: u32,
    /// Accepted answers: the text must contain one of them, in any case, at word boundaries. Never
    /// empty.
    pub expect: Vec<String>,
}

//! One model of a manifest: what it is, and what is expected of it.

use crate::admission::MemoryBounds;
use modelgate_protocol::{Device, Evidence, Message, Scheme};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// One model and what is expected of it.
#[derive(Debug, Clone)]
pub struct Model {
    /// Distinct in its manifest; `[a-z0-9][a-z0-9._@-]*`.
    pub id: String,
    /// Where it comes from.
    pub source: Source,
    /// Whose its weights are.
    pub weights: Weights,
    /// The quantization to load it with.
    pub quantization: Scheme,
    /// Where it is to live.
    pub device: DeviceChoice,
    /// Positions of the KV cache; derived from the model where it is not given.
    pub context: Option<u32>,
    /// The worker is ended after this.
    pub deadline: Duration,
    /// The worker is ended after so long without progress.
    pub stall: Duration,
    /// What is expected; what is not given is derived.
    pub expect: Expect,
    /// What to generate; empty where the built-in questions are to be asked, and for a synthetic
    /// model, which is asked nothing.
    pub generations: Vec<Question>,
}

impl Model {
    /// The id for a person to read, with a word where the weights are random and the id does not
    /// say so.
    pub fn title(&self) -> String {
        title(&self.id, self.weights.evidence())
    }
}

/// The id of a model for a person to read: a model of random weights is never shown without a word
/// on it.
pub fn title(id: &str, evidence: Evidence) -> String {
    match evidence {
        Evidence::Synthetic if !id.ends_with(SYNTHETIC_VARIANT) => format!("{id} (synthetic)"),
        _ => id.to_owned(),
    }
}

/// What the ids of synthetic variants end with. They are made here, not by a manifest's author.
pub(super) const SYNTHETIC_VARIANT: &str = "@synthetic";

/// Whose a model's weights are. Only the manifest says it, never the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// Trained weights from the model's files.
    Files,
    /// Random weights from files of the model's shapes.
    RandomFiles,
    /// Random weights that the worker makes in place from the config alone: no files are needed.
    InPlace,
}

impl Weights {
    /// What a measurement of such weights is evidence of.
    pub fn evidence(self) -> Evidence {
        match self {
            Weights::Files => Evidence::Real,
            Weights::RandomFiles | Weights::InPlace => Evidence::Synthetic,
        }
    }
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A repository of the Hugging Face Hub.
    Hub {
        /// `owner/name`.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
        /// A GGUF file in it; none for a safetensors model.
        file: Option<String>,
    },
    /// A folder in Hugging Face layout or a GGUF file. Relative paths are taken from the
    /// manifest's folder.
    Local {
        /// As the manifest writes it.
        path: PathBuf,
    },
}

impl Source {
    /// The hub repository, where it is one.
    pub fn repo(&self) -> Option<&str> {
        match self {
            Source::Hub { repo, .. } => Some(repo),
            Source::Local { .. } => None,
        }
    }

    /// Whether it is a local GGUF file, by its name.
    pub fn is_gguf_file(&self) -> bool {
        matches!(self, Source::Local { path } if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")))
    }
}

/// Where a model is to live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceChoice {
    /// What `MODELGATE_DEVICE` says; the CPU where it is unset, whatever GPUs there are.
    Auto,
    /// These, in this order.
    Listed(Vec<Device>),
}

impl DeviceChoice {
    /// Whether the choice asks for a GPU by name.
    pub fn needs_gpu(&self) -> bool {
        matches!(self, DeviceChoice::Listed(list) if list.iter().any(|device| device.is_cuda()))
    }
}

/// What is expected of a model; what is `None` is derived.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expect {
    /// Time until it is loaded.
    pub load_time: LoadTime,
    /// Peak device memory and peak private host memory.
    pub memory: MemoryBounds,
    /// Perplexity of a text.
    pub perplexity: PerplexityBound,
}

/// Time until a model is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadTime {
    /// From spawn until loaded, with the files at hand.
    pub cached: Option<Duration>,
    /// With the download, where anything was downloaded.
    pub first: Option<Duration>,
}

/// Perplexity of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PerplexityBound {
    /// At most this.
    pub max: Option<f64>,
    /// A text of the user's own, relative to the manifest's folder; the built-in one otherwise.
    pub text: Option<PathBuf>,
}

/// A chat and the answers that are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its name in the report; distinct in its model.
    pub name: String,
    /// The chat.
    pub messages: Vec<Message>,
    /// Tokens to generate at most.
    pub max_tokens: u32,
    /// Any of these, case-insensitive, on word boundaries; never empty.
    pub expect: Vec<String>,
}

//! What the harness asks of a worker: one model, loaded once, and what to generate with it.

use crate::{Device, Finite, Scheme};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The one line that a worker reads before it begins.
///
/// It holds no expectation: a worker cannot know what would be the right answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// [`crate::PROTOCOL_VERSION`] of the harness.
    pub protocol: u32,
    /// The model's id in the manifest, for messages.
    pub model: String,
    /// Local, verified files.
    pub files: ModelFiles,
    /// Whether the weights are the model's own. Of a synthetic model no tokenizer is asked for, no
    /// token is a stop token, and on a device a prefix of it is compared with the CPU.
    pub evidence: Evidence,
    /// The quantization to load with.
    pub quantization: Scheme,
    /// Where the model is to live, in the order of preference. The harness shows the worker just the
    /// CUDA devices among them, by UUID and in this order (`CUDA_VISIBLE_DEVICES`), and numbers them
    /// here as CUDA does then. Events use these names; reports those that the user gave.
    pub devices: Vec<Device>,
    /// Bytes of each device's memory that the worker may take; none for all that there is.
    pub device_limit: Option<u64>,
    /// Positions that the KV cache must hold; none for the engine's own choice by the
    /// model.
    pub context: Option<u32>,
    /// What to generate, in this order, each twice.
    pub generations: Vec<GenerationRequest>,
    /// The text whose perplexity is asked for.
    pub perplexity_text: Option<String>,
}

/// Local files of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelFiles {
    /// The folder that holds them.
    pub root: PathBuf,
    /// How the weights are stored.
    pub format: WeightFormat,
    /// Weight files, in the order of their names. For a sharded safetensors model those that the
    /// index names.
    pub weights: Vec<PathBuf>,
    /// `model.safetensors.index.json`, where the model is sharded.
    pub index: Option<PathBuf>,
    /// `config.json`; none for GGUF, whose metadata says the same.
    pub config: Option<PathBuf>,
    /// `generation_config.json`, where there is one.
    pub generation_config: Option<PathBuf>,
    /// `tokenizer.json`, where there is one.
    pub tokenizer: Option<PathBuf>,
    /// `tokenizer_config.json`, where there is one.
    pub tokenizer_config: Option<PathBuf>,
    /// `chat_template.jinja` or `chat_template.json`, where there is one.
    pub chat_template: Option<PathBuf>,
    /// Part of the weight files' bytes that was in the page cache before anything read them, by
    /// which a worker may say how fast they could have been read; `None` if the system does not
    /// tell.
    #[serde(default)]
    pub page_cache_fraction: Option<Finite>,
}

impl ModelFiles {
    /// Returns the files of a model that consists of nothing but `weights`.
    pub fn new(
        root: impl Into<PathBuf>,
        format: WeightFormat,
        weights: Vec<PathBuf>,
    ) -> ModelFiles {
        ModelFiles {
            root: root.into(),
            format,
            weights,
            index: None,
            config: None,
            generation_config: None,
            tokenizer: None,
            tokenizer_config: None,
            chat_template: None,
            page_cache_fraction: None,
        }
    }
}

/// Format of weight files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightFormat {
    /// safetensors, one file or sharded.
    Safetensors,
    /// GGUF of llama.cpp.
    Gguf,
    /// No files: random weights of the shapes that the config calls for, made in place.
    Synthetic,
}

/// Whether weights are the model's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Trained weights from the model's files.
    Real,
    /// Random weights of the model's shapes.
    Synthetic,
}

/// One chat, or a run of token ids, whose answer is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GenerationRequest {
    /// Its name in the report.
    pub name: String,
    /// The chat so far; rendered with the model's own chat template.
    pub messages: Vec<Message>,
    /// Token ids to go on from, where there is no chat.
    #[serde(default)]
    pub tokens: Vec<u32>,
    /// Tokens to generate at most; a stop token ends earlier.
    pub max_tokens: u32,
}

/// One turn of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its parts, in order.
    pub content: Vec<ContentPart>,
}

impl Message {
    /// The text parts, joined.
    pub fn text(&self) -> String {
        self.content.iter().map(|ContentPart::Text(text)| text.as_str()).collect()
    }
}

/// A part of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContentPart {
    /// Text.
    Text(String),
}

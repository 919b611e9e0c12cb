//! The request of the harness to a worker: one model, loaded once, and its generations.

use crate::{Device, Finite, Scheme};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The line that a worker reads before it starts.
///
/// It contains no expectation, so that a worker does not know the accepted answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// The [`crate::PROTOCOL_VERSION`] of the harness.
    pub protocol: u32,
    /// The id of the model in the manifest, for messages.
    pub model: String,
    /// The local, verified files.
    pub files: ModelFiles,
    /// Whether the weights are trained or random. A synthetic model needs no tokenizer, has no stop
    /// tokens, and on a device a prefix of it is compared with the CPU.
    pub evidence: Evidence,
    /// The quantization of the load.
    pub quantization: Scheme,
    /// The devices of the model, in the order of preference. Only the CUDA devices among them are
    /// visible to the worker (`CUDA_VISIBLE_DEVICES` with UUIDs in this order), and the names here
    /// are the resulting ordinals. Events use these names; reports use the names of the manifest.
    pub devices: Vec<Device>,
    /// The maximum bytes of memory that the worker may use on each device. `None` without a limit.
    pub device_limit: Option<u64>,
    /// The number of positions of the KV cache. `None` for the default of the engine.
    pub context: Option<u32>,
    /// The requested generations, in order. The worker runs each of them twice.
    pub generations: Vec<GenerationRequest>,
    /// The text whose perplexity is requested. `None` if it is not requested.
    pub perplexity_text: Option<String>,
}

/// The local files of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelFiles {
    /// The folder of the files.
    pub root: PathBuf,
    /// The format of the weights.
    pub format: WeightFormat,
    /// The weight files, in the order of their names. For a sharded safetensors model, the files
    /// that the index names.
    pub weights: Vec<PathBuf>,
    /// The path of `model.safetensors.index.json`. `None` for a model in one file.
    pub index: Option<PathBuf>,
    /// The path of `config.json`. `None` for GGUF, whose metadata replace it.
    pub config: Option<PathBuf>,
    /// The path of `generation_config.json`. `None` if it does not exist.
    pub generation_config: Option<PathBuf>,
    /// The path of `tokenizer.json`. `None` if it does not exist.
    pub tokenizer: Option<PathBuf>,
    /// The path of `tokenizer_config.json`. `None` if it does not exist.
    pub tokenizer_config: Option<PathBuf>,
    /// The path of `special_tokens_map.json`. `None` if it does not exist.
    #[serde(default)]
    pub special_tokens_map: Option<PathBuf>,
    /// The path of `chat_template.jinja` or `chat_template.json`. `None` if neither exists.
    pub chat_template: Option<PathBuf>,
    /// The fraction of the bytes of the weight files that was in the page cache before the load,
    /// from which a worker can derive the possible speed. `None` if the operating system does not
    /// report it.
    #[serde(default)]
    pub page_cache_fraction: Option<Finite>,
}

impl ModelFiles {
    /// Returns the files of a model that consists only of `weights`.
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
            special_tokens_map: None,
            chat_template: None,
            page_cache_fraction: None,
        }
    }
}

/// The format of weight files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightFormat {
    /// safetensors, in one file or sharded.
    Safetensors,
    /// The GGUF format of llama.cpp.
    Gguf,
    /// No files: random weights with the shapes of the config, generated in place.
    Synthetic,
}

/// Whether weights are trained or random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Trained weights from the files of the model.
    Real,
    /// Random weights with the shapes of the model.
    Synthetic,
}

/// A chat or a run of token ids to continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GenerationRequest {
    /// The name in the report.
    pub name: String,
    /// The chat, which is rendered with the chat template of the model.
    pub messages: Vec<Message>,
    /// The token ids to continue, if there is no chat.
    #[serde(default)]
    pub tokens: Vec<u32>,
    /// The maximum number of generated tokens. A stop token ends the generation earlier.
    pub max_tokens: u32,
}

/// A message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The parts of the message, in order.
    pub content: Vec<ContentPart>,
}

impl Message {
    /// Returns the text parts, joined.
    pub fn text(&self) -> String {
        self.content.iter().map(|ContentPart::Text(text)| text.as_str()).collect()
    }
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContentPart {
    /// Text.
    Text(String),
}

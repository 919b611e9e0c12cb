//! A model that is loaded: files in, a decoder with its tokenizer out.

use crate::decoder::{CacheError, Decoder, KvCache, Layout, inverse_frequencies};
use crate::load::{Plan, ROPE_FACTORS};
use crate::meter::Reporter;
use crate::source::{Architecture, Gguf, Metadata, Source, open_safetensors};
use crate::tokenizer::{GgufVocabulary, Prompt, TextCodec};
use crate::{chat::ChatTemplate, fail};
use candle_core::Tensor;
use modelgate_model::{Config, ConfigError, PREFILL_CHUNK};
use modelgate_protocol::{
    Device, Event, Failure, FailureKind, Message, ProgressUnit, Request, Stage, WeightFormat,
};
use serde_json::Value;
use std::path::Path;

/// Where events go. Called from several threads at once while a model loads.
pub type Events<'a> = &'a (dyn Fn(Event) + Sync);

/// Rows of hidden states that are turned to logits at once: logits of a large vocabulary take
/// more memory than a whole layer.
pub(crate) const LOGIT_ROWS: usize = 32;

/// A model that is loaded.
pub struct Model {
    config: Config,
    decoder: Decoder,
    codec: TextCodec,
    template: Result<ChatTemplate, Failure>,
    stop_tokens: Vec<u32>,
}

impl Model {
    /// Loads what `request` names and tells of every tensor. Its protocol version, prompts and
    /// devices are not looked at here.
    ///
    /// # Errors
    /// Names the file, the tensor, what was expected and what was found.
    pub fn load(request: &Request, events: Events) -> Result<Model, Failure> {
        let files = &request.files;
        let Opened { source, config, config_json, metadata, architecture, layout } = open(request)?;
        let context = request.context.unwrap_or_else(|| config.default_context());
        refuse(context, &config)?;
        let vocabulary = metadata.as_ref().map(GgufVocabulary::new);
        let codec = TextCodec::open(files, vocabulary.as_ref(), &config)?;
        let stop_tokens = stop_tokens(files.generation_config.as_deref(), &config)?;
        let template = ChatTemplate::open(files, vocabulary.as_ref());
        if let (Err(failure), false) = (&template, request.generations.is_empty()) {
            // before the weights, which may take half an hour
            return Err(failure.clone());
        }
        let plan = Plan::new(&source, &config, files.format, request.quantization)?;
        events(Event::Model {
            architecture,
            parameters: plan.parameters(),
            context,
            config: config_json,
            parts: vec!["text".into()],
            devices: vec![Device::Cpu.to_string()],
        });
        let weights = plan.load(events)?;
        let decoder = assemble(&config, weights, layout, context as usize)?;
        events(Event::Loaded);
        Ok(Model { config, decoder, codec, template, stop_tokens })
    }

    /// What the files say the model is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Positions that its cache holds.
    pub fn context(&self) -> usize {
        self.decoder.positions()
    }

    /// Token ids that end an answer.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// Forgets all tokens that it has seen.
    pub fn reset(&mut self) {
        self.decoder.reset();
    }

    /// Logits (n, vocabulary) of all `tokens`, which stand at positions `start` on; those before
    /// must have been given already.
    ///
    /// # Errors
    /// Tokens beyond the context, or without those before them.
    pub fn forward(&mut self, tokens: &[u32], start: usize) -> Result<Tensor, Failure> {
        let internal = fail::internal(Stage::Generate);
        in_pool(|| {
            let mut parts = Vec::new();
            for (number, chunk) in tokens.chunks(PREFILL_CHUNK).enumerate() {
                let hidden = self.decoder.hidden(chunk, start + number * PREFILL_CHUNK, &|_| {});
                parts.push(hidden.and_then(|h| self.decoder.logits(&h)).map_err(&internal)?);
            }
            Tensor::cat(&parts, 0).map_err(&internal)
        })
    }

    /// Logits (vocabulary) of what follows `tokens`, which stand at positions `start` on; those
    /// before must have been given already.
    ///
    /// # Errors
    /// Tokens beyond the context, or without those before them.
    pub fn last_logits(&mut self, tokens: &[u32], start: usize) -> Result<Tensor, Failure> {
        let progress = Reporter::new(ProgressUnit::Tokens, tokens.len() as u64, &|_| {});
        self.next(tokens, start, &progress)
    }

    /// Logits of what follows `tokens`, which stand at positions `start` on.
    pub(crate) fn next(
        &mut self,
        tokens: &[u32],
        start: usize,
        progress: &Reporter,
    ) -> Result<Tensor, Failure> {
        in_pool(|| {
            let mut last = None;
            for (number, chunk) in tokens.chunks(PREFILL_CHUNK).enumerate() {
                last = Some(self.hidden(chunk, start + number * PREFILL_CHUNK, progress)?);
            }
            let logits = match last {
                Some(hidden) => hidden
                    .dim(0)
                    .and_then(|count| hidden.narrow(0, count - 1, 1))
                    .and_then(|hidden| self.decoder.logits(&hidden))
                    .and_then(|logits| logits.squeeze(0)),
                None => Err(candle_core::Error::Msg("no tokens to go on from".into())),
            };
            logits.map_err(fail::internal(Stage::Generate))
        })
    }

    /// Hidden states of at most [`PREFILL_CHUNK`] tokens.
    pub(crate) fn hidden(
        &mut self,
        tokens: &[u32],
        start: usize,
        progress: &Reporter,
    ) -> Result<Tensor, Failure> {
        let advance = |tokens| progress.advance(tokens);
        self.decoder.hidden(tokens, start, &advance).map_err(fail::internal(Stage::Generate))
    }

    /// Logits of hidden states, at most [`LOGIT_ROWS`] of them.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Vec<Vec<f32>>, Failure> {
        let logits = self.decoder.logits(hidden).and_then(|logits| logits.to_vec2::<f32>());
        logits.map_err(fail::internal(Stage::Generate))
    }

    /// The prompt that asks for an answer to `messages`, by the model's chat template.
    ///
    /// # Errors
    /// There is no template, or it refuses the messages.
    pub fn render(&self, messages: &[Message]) -> Result<Prompt, Failure> {
        match &self.template {
            Ok(template) => template.render(messages, self.codec.special()),
            Err(failure) => Err(failure.clone()),
        }
    }

    /// Token ids of a prompt: the special tokens that the template wrote are special, the same
    /// characters in a message are not.
    ///
    /// # Errors
    /// The tokenizer cannot encode it.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        self.codec.encode_prompt(prompt)
    }

    /// Token ids of `text`, in which nothing is special; `special` adds what the tokenizer puts
    /// around every text.
    ///
    /// # Errors
    /// The tokenizer cannot encode it.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, Failure> {
        self.codec.encode(text, special)
    }

    /// The text of token ids, special tokens left out.
    ///
    /// # Errors
    /// The tokenizer cannot decode them.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, Failure> {
        self.codec.decode(tokens)
    }

    /// Where the tokenizer came from, for messages.
    pub(crate) fn tokenizer_path(&self) -> &Path {
        self.codec.path()
    }
}

/// Does `work` on a thread of the pool, where each of its many products forks without waking and
/// waiting for another thread first.
pub(crate) fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// What the weight files say of the model before any weight is read.
struct Opened {
    source: Source,
    config: Config,
    /// The config in the words of a `config.json`, where the files have none.
    config_json: Option<String>,
    /// The metadata of GGUF files.
    metadata: Option<Metadata>,
    /// Its name in reports.
    architecture: String,
    /// How the rows of q and k are ordered.
    layout: Layout,
}

/// Opens the weight files and reads what they say of themselves.
fn open(request: &Request) -> Result<Opened, Failure> {
    let files = &request.files;
    if files.weights.is_empty() && files.index.is_none() {
        return Err(fail::load(
            FailureKind::NotFound,
            format!("{} has no weight file", files.root.display()),
            "check the model's path, or fetch it again",
        ));
    }
    match files.format {
        WeightFormat::Safetensors => {
            let config = read_config(files.config.as_deref(), &files.root)?;
            Ok(Opened {
                source: open_safetensors(files)?,
                architecture: config.architecture.clone(),
                config,
                config_json: None,
                metadata: None,
                layout: Layout::Halves,
            })
        }
        WeightFormat::Synthetic => Err(fail::load(
            FailureKind::Unsupported,
            "synthetic weights are not supported by this engine",
            "use a model's own files",
        )),
        WeightFormat::Gguf => {
            let gguf = Gguf::open(&files.root, &files.weights)?;
            Ok(Opened {
                source: gguf.source,
                config: gguf.config,
                config_json: Some(gguf.config_json),
                metadata: Some(gguf.metadata),
                architecture: gguf.architecture.name().to_owned(),
                layout: match gguf.architecture {
                    Architecture::Llama => Layout::Interleaved,
                    Architecture::Qwen2 | Architecture::Qwen2Vl => Layout::Halves,
                },
            })
        }
    }
}

fn read_config(path: Option<&Path>, root: &Path) -> Result<Config, Failure> {
    let path = path.ok_or_else(|| {
        fail::load(
            FailureKind::NotFound,
            format!("{} has no config.json", root.display()),
            "fetch the model again: its repository has a config.json beside the weights",
        )
    })?;
    let text = std::fs::read_to_string(path).map_err(|error| fail::io(path, &error))?;
    Config::from_json(&text).map_err(|error| match error {
        ConfigError::Malformed(what) => fail::corrupt(path, what),
        ConfigError::Unsupported(what) => fail::load(
            FailureKind::Unsupported,
            format!("{}: {what}", path.display()),
            "use a model of a supported architecture in a supported form",
        ),
    })
}

/// Refuses a context that the model was not made for.
fn refuse(context: u32, config: &Config) -> Result<(), Failure> {
    if context == 0 || context as usize > config.max_positions {
        return Err(fail::load(
            FailureKind::ContextLength,
            format!(
                "a context of {context} positions; expected 1 to {}, which the model was made for",
                config.max_positions
            ),
            format!("set context to at most {}", config.max_positions),
        ));
    }
    Ok(())
}

/// The stop tokens of `generation_config.json` and those of the config.
fn stop_tokens(path: Option<&Path>, config: &Config) -> Result<Vec<u32>, Failure> {
    let mut tokens = config.stop_tokens.clone();
    if let Some(path) = path {
        let bytes = std::fs::read(path).map_err(|error| fail::io(path, &error))?;
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|error| fail::corrupt(path, error))?;
        let ids = match &value["eos_token_id"] {
            Value::Null => Vec::new(),
            Value::Array(ids) => ids.clone(),
            id => vec![id.clone()],
        };
        for id in ids {
            let token = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let no_token = || fail::corrupt(path, format!("eos_token_id: {id} is no token id"));
            tokens.push(token.ok_or_else(no_token)?);
        }
    }
    tokens.sort_unstable();
    tokens.dedup();
    Ok(tokens)
}

fn assemble(
    config: &Config,
    mut weights: crate::load::Weights,
    layout: Layout,
    context: usize,
) -> Result<Decoder, Failure> {
    let internal = fail::internal(Stage::Load);
    let factors = match weights.remove(ROPE_FACTORS) {
        Some(factors) => {
            let values = factors.float().and_then(|factors| factors.to_vec1::<f32>());
            let values = values.map_err(&internal)?;
            if let Some(factor) =
                values.iter().find(|factor| !factor.is_finite() || **factor <= 0.0)
            {
                return Err(fail::load(
                    FailureKind::Corrupt,
                    format!("tensor {ROPE_FACTORS} holds {factor}, expected positive numbers"),
                    fail::FETCH_AGAIN,
                ));
            }
            Some(values)
        }
        None => None,
    };
    let frequencies = inverse_frequencies(config, factors.as_deref());
    let cache = KvCache::new(config, context).map_err(|error| match error {
        CacheError::Memory(bytes) => {
            fail::host_memory(bytes, &format!("a key/value cache of {context} positions"))
        }
        CacheError::Engine(error) => internal(error),
    })?;
    Decoder::new(config, weights, &frequencies, layout, cache).map_err(internal)
}

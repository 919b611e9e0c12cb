//! A model that is loaded: files in, a decoder with its tokenizer out.

use crate::agreement::Prefix;
use crate::decoder::{CacheError, Decoder, KvCache, Layout, inverse_frequencies};
use crate::load::{Plan, ROPE_FACTORS, Weights};
use crate::meter::Reporter;
use crate::place::Place;
use crate::small_file::{read_json, read_text};
use crate::source::{Architecture, Gguf, Metadata, Source, open_safetensors};
use crate::synthetic::MADE;
use crate::tokenizer::{GgufVocabulary, Prompt, TextCodec};
use crate::traffic::Traffic;
use crate::{chat::ChatTemplate, fail};
use candle_core::Tensor;
use modelgate_model::{Config, ConfigError, PREFILL_CHUNK};
use modelgate_protocol::{
    Agreement, Device, Event, Evidence, Failure, FailureKind, Message, ModelFiles, ProgressUnit,
    Request, Stage, WeightFormat,
};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Where events go. Called from several threads at once while a model loads.
pub type Events<'a> = &'a (dyn Fn(Event) + Sync);

/// Rows of hidden states that are turned to logits at once: logits of a large vocabulary take
/// more memory than a whole layer.
pub(crate) const LOGIT_ROWS: usize = 32;

/// Tokens that go through candle's kernels for vectors at once, at most.
const MOST_VECTORS: usize = 8;

/// A model that is loaded.
pub struct Model {
    config: Config,
    decoder: Decoder,
    /// None of a synthetic model, whose tokens stand for nothing.
    text: Option<Text>,
    stop_tokens: Vec<u32>,
    /// The first layers of a synthetic model on a device.
    prefix: Option<Prefix>,
    traffic: Traffic,
    place: Place,
}

/// What turns text into tokens and back.
struct Text {
    codec: TextCodec,
    template: Result<ChatTemplate, Failure>,
}

impl Text {
    fn open(
        files: &ModelFiles,
        metadata: Option<&Metadata>,
        config: &Config,
    ) -> Result<Text, Failure> {
        let vocabulary = metadata.map(GgufVocabulary::new);
        let codec = TextCodec::open(files, vocabulary.as_ref(), config)?;
        Ok(Text { codec, template: ChatTemplate::open(files, vocabulary.as_ref()) })
    }
}

impl Model {
    /// Loads what `request` names to the first of its devices and tells of every tensor. Its
    /// protocol version and prompts are not looked at here.
    ///
    /// # Errors
    /// Names the file, the tensor, what was expected and what was found.
    pub fn load(request: &Request, events: Events) -> Result<Model, Failure> {
        let place = Place::open(&request.devices, request.device_limit)?;
        if let Some(gpu) = place.gpu() {
            gpu.load_kernels()?;
        }
        Model::load_to(&place, request, events)
    }

    /// The same to a place that is open.
    pub(crate) fn load_to(
        place: &Place,
        request: &Request,
        events: Events,
    ) -> Result<Model, Failure> {
        let files = &request.files;
        let opened = open(request, place)?;
        let Opened { source, config, config_json, metadata, architecture, layout } = opened;
        let context = request.context.unwrap_or_else(|| config.default_context());
        refuse(context, &config)?;
        let text = match request.evidence {
            Evidence::Real => Some(Text::open(files, metadata.as_ref(), &config)?),
            Evidence::Synthetic => None,
        };
        let chats = request.generations.iter().any(|generation| generation.tokens.is_empty());
        if let (Some(Text { template: Err(failure), .. }), true) = (&text, chats) {
            // before the weights, which may take half an hour
            return Err(failure.clone());
        }
        let stop_tokens = match request.evidence {
            Evidence::Real => stop_tokens(files.generation_config.as_deref(), &config)?,
            // random weights hit upon one by chance, and all that is asked for is to be timed
            Evidence::Synthetic => Vec::new(),
        };
        let on_device = place.gpu().is_some();
        let plan = Plan::new(&source, &config, files.format, request.quantization, on_device)?;
        events(Event::Model {
            architecture,
            parameters: plan.parameters(),
            context,
            config: config_json,
            parts: vec!["text".into()],
            devices: request.devices.iter().take(1).map(Device::to_string).collect(),
        });
        let positions = context as usize;
        // what cannot be had is said before the weights are read
        let cache = cache(&config, positions, place)?;
        let mut weights = plan.load(place, events)?;
        let frequencies = frequencies(&config, &mut weights)?;
        let prefix = (on_device && request.evidence == Evidence::Synthetic)
            .then(|| Prefix::of(&config, &weights, &frequencies, layout));
        let traffic = Traffic::of(&config, &weights, on_device);
        let mut decoder = Decoder::new(&config, weights, &frequencies, layout, cache)
            .map_err(fail::internal(Stage::Load))?;
        if let Some(gpu) = place.gpu() {
            // candle's workspace for vectors has to have its full size before a step is recorded
            decoder
                .warm_up(MOST_VECTORS.min(positions), &|_| {})
                .and_then(|hidden| decoder.logits(&hidden))
                .map_err(fail::internal(Stage::Load))?;
            decoder.reset();
            gpu.synchronize(Stage::Load)?;
            events(Event::DeviceMemory(gpu.memory()));
        }
        events(Event::Loaded);
        Ok(Model { config, decoder, text, stop_tokens, prefix, traffic, place: place.clone() })
    }

    /// Evaluates a chunk of tokens at the end of the context, which takes all the memory that a
    /// prompt will ever take, and forgets it.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub(crate) fn warm_up(&mut self, events: Events) -> Result<(), Failure> {
        let internal = fail::internal(Stage::Generate);
        let count = PREFILL_CHUNK.min(self.context());
        let progress = Reporter::new(ProgressUnit::Tokens, count as u64, events);
        let advance = |tokens| progress.advance(tokens);
        in_pool(|| {
            let hidden = self.decoder.warm_up(count, &advance).map_err(&internal)?;
            let rows = hidden.narrow(0, 0, LOGIT_ROWS.min(count)).map_err(&internal)?;
            self.logits(&rows).map(drop)?;
            let last = self.context() - 1;
            // twice: the first time it is recorded, the second time the recording takes its memory
            for _ in 0..if self.decoder.has_single_steps() { 2 } else { 0 } {
                self.decoder.next(0, last).map_err(&internal)?;
            }
            Ok(())
        })?;
        self.reset();
        match self.place.gpu() {
            Some(gpu) => gpu.synchronize(Stage::Generate),
            None => Ok(()),
        }
    }

    /// How well the first layers agree with the same on the CPU; none where they are there anyway.
    ///
    /// # Errors
    /// The engine fails.
    pub(crate) fn agreement(&self) -> Result<Option<Agreement>, Failure> {
        let compare = |prefix: &Prefix| in_pool(|| prefix.compare(&self.place));
        self.prefix.as_ref().map(compare).transpose()
    }

    /// Counts a prompt of so many tokens that took so long.
    pub(crate) fn count_prefill(&self, tokens: usize, took: Duration) {
        self.traffic.count_prefill(tokens, took);
    }

    /// Counts tokens that were decoded one by one after `start` others.
    pub(crate) fn count_decode(&self, start: usize, tokens: usize, took: Duration) {
        self.traffic.count_decode(start, tokens, took);
    }

    /// Tells what was moved for prompts and answers.
    pub(crate) fn tell_activities(&self, events: Events) {
        self.traffic.tell(events);
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
    /// before must have been given already. On a device the next call may overwrite them.
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
        if let [token] = tokens
            && self.decoder.has_single_steps()
        {
            progress.advance(1);
            // in the pool, whose threads outlive what is recorded on them
            let logits =
                in_pool(|| self.decoder.next(*token, start).and_then(|logits| logits.squeeze(0)));
            return logits.map_err(fail::internal(Stage::Generate));
        }
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
        let Text { codec, template } = self.text()?;
        match template {
            Ok(template) => template.render(messages, codec.special()),
            Err(failure) => Err(failure.clone()),
        }
    }

    /// Token ids of a prompt: the special tokens that the template wrote are special, the same
    /// characters in a message are not.
    ///
    /// # Errors
    /// The tokenizer cannot encode it.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        self.text()?.codec.encode_prompt(prompt)
    }

    /// Token ids of `text`, in which nothing is special; `special` adds what the tokenizer puts
    /// around every text.
    ///
    /// # Errors
    /// The tokenizer cannot encode it.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, Failure> {
        self.text()?.codec.encode(text, special)
    }

    /// The text of token ids, special tokens left out; empty of a synthetic model.
    ///
    /// # Errors
    /// The tokenizer cannot decode them.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, Failure> {
        match &self.text {
            Some(text) => text.codec.decode(tokens),
            None => Ok(String::new()),
        }
    }

    fn text(&self) -> Result<&Text, Failure> {
        self.text.as_ref().ok_or_else(|| {
            let message = "text is asked of a synthetic model, whose tokens stand for nothing";
            let hint = "ask it to go on from token ids";
            crate::tokenizer::failure(Stage::Generate, message.to_owned(), hint)
        })
    }

    /// Where the tokenizer came from, for messages.
    pub(crate) fn tokenizer_path(&self) -> &Path {
        self.text.as_ref().map_or(Path::new(MADE), |text| text.codec.path())
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
fn open(request: &Request, place: &Place) -> Result<Opened, Failure> {
    let files = &request.files;
    let made = files.format == WeightFormat::Synthetic;
    if files.weights.is_empty() && files.index.is_none() && !made {
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
        WeightFormat::Synthetic => {
            let config = read_config(files.config.as_deref(), &files.root)?;
            let on_device = place.gpu().is_some();
            Ok(Opened {
                source: Source::synthetic(&config, request.quantization, on_device),
                architecture: config.architecture.clone(),
                config,
                config_json: None,
                metadata: None,
                layout: Layout::Halves,
            })
        }
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
    let text = read_text(path, Config::LONGEST_TEXT as u64);
    let text = text.map_err(|error| fail::io(path, &error))?;
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
        let value: Value = read_json(path).map_err(|error| fail::io(path, &error))?;
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

/// RoPE's frequencies, by the table of factors that some files have.
fn frequencies(config: &Config, weights: &mut Weights) -> Result<Vec<f32>, Failure> {
    let Some(factors) = weights.remove(ROPE_FACTORS) else {
        return Ok(inverse_frequencies(config, None));
    };
    let values = factors.float().and_then(|factors| factors.to_vec1::<f32>());
    let values = values.map_err(fail::internal(Stage::Load))?;
    if let Some(factor) = values.iter().find(|factor| !factor.is_finite() || **factor <= 0.0) {
        return Err(fail::load(
            FailureKind::Corrupt,
            format!("tensor {ROPE_FACTORS} holds {factor}, expected positive numbers"),
            fail::FETCH_AGAIN,
        ));
    }
    Ok(inverse_frequencies(config, Some(&values)))
}

fn cache(config: &Config, positions: usize, place: &Place) -> Result<KvCache, Failure> {
    KvCache::new(config, positions, &place.device()).map_err(|error| match error {
        CacheError::Memory(bytes) => {
            fail::host_memory(bytes, &format!("a key/value cache of {positions} positions"))
        }
        CacheError::Engine(error) => fail::internal(Stage::Load)(error),
    })
}

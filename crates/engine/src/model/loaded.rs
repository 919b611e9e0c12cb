//! The loaded model: evaluates tokens, renders chats, encodes and decodes text.

use crate::agreement::FirstLayers;
use crate::compute_device::ComputeDevice;
use crate::decoder::Decoder;
use crate::events::Events;
use crate::failures;
use crate::formats::SYNTHETIC_FILE;
use crate::meter::ProgressReporter;
use crate::text::{ModelText, Prompt};
use crate::thread_pool::in_pool;
use crate::traffic::Traffic;
use candle_core::Tensor;
use modelgate_model::{Config, PREFILL_CHUNK};
use modelgate_protocol::{Agreement, Failure, Message, ProgressUnit, Stage};
use std::path::Path;
use std::time::Duration;

/// The maximum number of rows of hidden states whose logits are computed in one product. With a
/// large vocabulary, the logits of more rows would take more memory than a layer.
pub(crate) const LOGIT_ROWS: usize = 32;

/// A model whose weights are resident on one device.
pub struct Model {
    pub(super) config: Config,
    pub(super) decoder: Decoder,
    /// `None` if the model is synthetic, since its token ids have no meaning.
    pub(super) text: Option<ModelText>,
    pub(super) stop_tokens: Vec<u32>,
    /// The first layers of the model, for the comparison with the CPU. `None` unless the model is
    /// synthetic and on a GPU.
    pub(super) prefix: Option<FirstLayers>,
    pub(super) traffic: Traffic,
    pub(super) device: ComputeDevice,
}

impl Model {
    /// Evaluates one chunk of tokens at the end of the context, so that all memory for prompts and
    /// single tokens is allocated. Then resets the model.
    ///
    /// # Errors
    /// The memory cannot be allocated.
    pub(crate) fn warm_up(&mut self, events: Events) -> Result<(), Failure> {
        let internal = failures::internal(Stage::Generate);
        let count = PREFILL_CHUNK.min(self.context());
        let progress = ProgressReporter::new(ProgressUnit::Tokens, count as u64, events);
        let advance = |tokens| progress.advance(tokens);
        in_pool(|| {
            let hidden = self.decoder.warm_up(count, &advance).map_err(&internal)?;
            let rows = hidden.narrow(0, 0, LOGIT_ROWS.min(count)).map_err(&internal)?;
            self.logits(&rows).map(drop)?;
            let last = self.context() - 1;
            // the first call records the launches, the second allocates the memory of the recording
            for _ in 0..if self.decoder.supports_single_tokens() { 2 } else { 0 } {
                self.decoder.next(0, last).map_err(&internal)?;
            }
            Ok(())
        })?;
        self.reset();
        match self.device.gpu() {
            Some(gpu) => gpu.synchronize(Stage::Generate),
            None => Ok(()),
        }
    }

    /// Compares the first layers with the same layers on the CPU. `None` if this model is not
    /// compared, see [`Model::prefix`].
    ///
    /// # Errors
    /// The engine fails.
    pub(crate) fn agreement(&self) -> Result<Option<Agreement>, Failure> {
        let compare = |prefix: &FirstLayers| in_pool(|| prefix.compare(&self.device));
        self.prefix.as_ref().map(compare).transpose()
    }

    /// Adds the evaluation of a prompt of `tokens` tokens to the traffic counters.
    pub(crate) fn count_prefill(&self, tokens: usize, duration: Duration) {
        self.traffic.count_prefill(tokens, duration);
    }

    /// Adds `tokens` tokens, which were decoded one by one from position `start` on, to the traffic
    /// counters.
    pub(crate) fn count_decode(&self, start: usize, tokens: usize, duration: Duration) {
        self.traffic.count_decode(start, tokens, duration);
    }

    /// Sends the traffic counters as activity events.
    pub(crate) fn report_traffic(&self, events: Events) {
        self.traffic.report(events);
    }

    /// Returns the config of the model, as read from its files.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the number of positions of the KV cache.
    pub fn context(&self) -> usize {
        self.decoder.positions()
    }

    /// Returns the token ids that end an answer, sorted.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// Empties the KV cache: the next token is evaluated at position 0.
    pub fn reset(&mut self) {
        self.decoder.reset();
    }

    /// Evaluates `tokens` from position `start` on, and returns their logits (n, vocabulary). All
    /// positions before `start` must have been evaluated.
    ///
    /// # Errors
    /// A position exceeds the context, or a position before `start` was not evaluated.
    pub fn forward(&mut self, tokens: &[u32], start: usize) -> Result<Tensor, Failure> {
        let internal = failures::internal(Stage::Generate);
        in_pool(|| {
            let mut parts = Vec::new();
            for (number, chunk) in tokens.chunks(PREFILL_CHUNK).enumerate() {
                let hidden = self.decoder.hidden(chunk, start + number * PREFILL_CHUNK, &|_| {});
                parts.push(hidden.and_then(|h| self.decoder.logits(&h)).map_err(&internal)?);
            }
            Tensor::cat(&parts, 0).map_err(&internal)
        })
    }

    /// Evaluates `tokens` starting at position `start`, and returns the logits of the next token
    /// (shape: vocabulary). All positions before `start` must have been evaluated. On a device, the next call may
    /// overwrite the logits.
    ///
    /// # Errors
    /// A position exceeds the context, or a position before `start` was not evaluated.
    pub fn last_logits(&mut self, tokens: &[u32], start: usize) -> Result<Tensor, Failure> {
        let total = tokens.len() as u64;
        let progress = ProgressReporter::new(ProgressUnit::Tokens, total, &|_| {});
        self.next(tokens, start, &progress)
    }

    /// Evaluates `tokens` starting at position `start`, and returns the logits of the next token
    /// (shape: vocabulary).
    pub(crate) fn next(
        &mut self,
        tokens: &[u32],
        start: usize,
        progress: &ProgressReporter,
    ) -> Result<Tensor, Failure> {
        if let [token] = tokens
            && self.decoder.supports_single_tokens()
        {
            progress.advance(1);
            // the threads of the pool outlive the recording that is made on them
            let logits =
                in_pool(|| self.decoder.next(*token, start).and_then(|logits| logits.squeeze(0)));
            return logits.map_err(failures::internal(Stage::Generate));
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
                None => Err(candle_core::Error::Msg("no tokens to continue".into())),
            };
            logits.map_err(failures::internal(Stage::Generate))
        })
    }

    /// Evaluates at most [`PREFILL_CHUNK`] tokens from position `start` on, and returns their
    /// hidden states (n, hidden size).
    pub(crate) fn hidden(
        &mut self,
        tokens: &[u32],
        start: usize,
        progress: &ProgressReporter,
    ) -> Result<Tensor, Failure> {
        let advance = |tokens| progress.advance(tokens);
        self.decoder.hidden(tokens, start, &advance).map_err(failures::internal(Stage::Generate))
    }

    /// Returns the logits (n, vocabulary) of at most [`LOGIT_ROWS`] hidden states (n, hidden size).
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Vec<Vec<f32>>, Failure> {
        let logits = self.decoder.logits(hidden).and_then(|logits| logits.to_vec2::<f32>());
        logits.map_err(failures::internal(Stage::Generate))
    }

    /// Renders `messages` with the chat template of the model, up to the beginning of the answer.
    ///
    /// # Errors
    /// The template is missing, or rejects the messages.
    pub fn render(&self, messages: &[Message]) -> Result<Prompt, Failure> {
        self.text()?.render(messages)
    }

    /// Encodes a prompt. Special tokens that the template wrote are encoded as special tokens. The
    /// same characters in a message are encoded as plain text.
    ///
    /// # Errors
    /// The tokenizer cannot encode the prompt.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        self.text()?.codec().encode_prompt(prompt)
    }

    /// Encodes `text` as plain text, even if it contains the name of a special token. If
    /// `add_special` is set, adds the special tokens that the tokenizer puts around every text.
    ///
    /// # Errors
    /// The tokenizer cannot encode the text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Failure> {
        self.text()?.codec().encode(text, add_special)
    }

    /// Decodes token ids, and omits special tokens. Returns an empty text for a synthetic model.
    ///
    /// # Errors
    /// The tokenizer cannot decode the ids.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, Failure> {
        match &self.text {
            Some(text) => text.codec().decode(tokens),
            None => Ok(String::new()),
        }
    }

    fn text(&self) -> Result<&ModelText, Failure> {
        self.text.as_ref().ok_or_else(|| {
            let message =
                "request: a synthetic model has no text, because its tokens have no meaning";
            let hint = "set `tokens` to token IDs instead of `messages`";
            failures::tokenizer(Stage::Generate, message, hint)
        })
    }

    /// Returns the path of the tokenizer's file, for use in messages. For a synthetic model, it is
    /// a placeholder.
    pub(crate) fn tokenizer_path(&self) -> &Path {
        self.text.as_ref().map_or(Path::new(SYNTHETIC_FILE), |text| text.codec().path())
    }
}

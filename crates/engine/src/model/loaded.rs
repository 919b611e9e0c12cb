//! A loaded model, and what can be asked of it.

use crate::agreement::Prefix;
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

/// Rows of hidden states whose logits are computed at once: logits of a large vocabulary take more
/// memory than a whole layer.
pub(crate) const LOGIT_ROWS: usize = 32;

/// A loaded model.
pub struct Model {
    pub(super) config: Config,
    pub(super) decoder: Decoder,
    /// `None` for a synthetic model, whose tokens stand for nothing.
    pub(super) text: Option<ModelText>,
    pub(super) stop_tokens: Vec<u32>,
    /// The first layers of a synthetic model on a device.
    pub(super) prefix: Option<Prefix>,
    pub(super) traffic: Traffic,
    pub(super) device: ComputeDevice,
}

impl Model {
    /// Evaluates a chunk of tokens at the end of the context, which allocates all the memory that a
    /// prompt will ever need, and forgets it.
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
            // twice: the first is recorded, the second allocates the memory of the recording
            for _ in 0..if self.decoder.has_single_steps() { 2 } else { 0 } {
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

    /// Compares the first layers with the same on the CPU; returns `None` for models that are not
    /// compared.
    ///
    /// # Errors
    /// The engine fails.
    pub(crate) fn agreement(&self) -> Result<Option<Agreement>, Failure> {
        let compare = |prefix: &Prefix| in_pool(|| prefix.compare(&self.device));
        self.prefix.as_ref().map(compare).transpose()
    }

    /// Counts a prompt of `tokens` tokens that took so long.
    pub(crate) fn count_prefill(&self, tokens: usize, took: Duration) {
        self.traffic.count_prefill(tokens, took);
    }

    /// Counts tokens that were decoded one by one after `start` others.
    pub(crate) fn count_decode(&self, start: usize, tokens: usize, took: Duration) {
        self.traffic.count_decode(start, tokens, took);
    }

    /// Sends how many bytes prompts and answers moved.
    pub(crate) fn report_traffic(&self, events: Events) {
        self.traffic.report(events);
    }

    /// Returns the config that the files have.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the number of positions that the KV cache can hold.
    pub fn context(&self) -> usize {
        self.decoder.positions()
    }

    /// Returns the token ids that end an answer.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// Forgets all tokens that were evaluated.
    pub fn reset(&mut self) {
        self.decoder.reset();
    }

    /// Returns the logits (n, vocabulary) of all `tokens` at positions `start` on; those before must
    /// have been evaluated already.
    ///
    /// # Errors
    /// Tokens beyond the context, or without those before them.
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

    /// Returns the logits (vocabulary) of what follows `tokens` at positions `start` on; those before
    /// must have been evaluated already. On a device the next call may overwrite them.
    ///
    /// # Errors
    /// Tokens beyond the context, or without those before them.
    pub fn last_logits(&mut self, tokens: &[u32], start: usize) -> Result<Tensor, Failure> {
        let total = tokens.len() as u64;
        let progress = ProgressReporter::new(ProgressUnit::Tokens, total, &|_| {});
        self.next(tokens, start, &progress)
    }

    /// Returns the logits of what follows `tokens` at positions `start` on.
    pub(crate) fn next(
        &mut self,
        tokens: &[u32],
        start: usize,
        progress: &ProgressReporter,
    ) -> Result<Tensor, Failure> {
        if let [token] = tokens
            && self.decoder.has_single_steps()
        {
            progress.advance(1);
            // in the pool, whose threads outlive what is recorded on them
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

    /// Returns the hidden states of at most [`PREFILL_CHUNK`] tokens.
    pub(crate) fn hidden(
        &mut self,
        tokens: &[u32],
        start: usize,
        progress: &ProgressReporter,
    ) -> Result<Tensor, Failure> {
        let advance = |tokens| progress.advance(tokens);
        self.decoder.hidden(tokens, start, &advance).map_err(failures::internal(Stage::Generate))
    }

    /// Returns the logits of at most [`LOGIT_ROWS`] hidden states.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Vec<Vec<f32>>, Failure> {
        let logits = self.decoder.logits(hidden).and_then(|logits| logits.to_vec2::<f32>());
        logits.map_err(failures::internal(Stage::Generate))
    }

    /// Renders the prompt that asks for an answer to `messages`, by the model's chat template.
    ///
    /// # Errors
    /// There is no template, or it refuses the messages.
    pub fn render(&self, messages: &[Message]) -> Result<Prompt, Failure> {
        self.text()?.render(messages)
    }

    /// Encodes a prompt: the special tokens that the template wrote are special, the same characters
    /// in a message are not.
    ///
    /// # Errors
    /// The tokenizer cannot encode it.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        self.text()?.codec().encode_prompt(prompt)
    }

    /// Encodes `text`, in which nothing is special; `special` adds the special tokens that the
    /// tokenizer puts around every text.
    ///
    /// # Errors
    /// The tokenizer cannot encode it.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, Failure> {
        self.text()?.codec().encode(text, special)
    }

    /// Decodes token ids, without special tokens; empty for a synthetic model.
    ///
    /// # Errors
    /// The tokenizer cannot decode them.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, Failure> {
        match &self.text {
            Some(text) => text.codec().decode(tokens),
            None => Ok(String::new()),
        }
    }

    fn text(&self) -> Result<&ModelText, Failure> {
        self.text.as_ref().ok_or_else(|| {
            let message = "text is requested from a synthetic model, whose tokens have no meaning";
            let hint = "request a continuation of token IDs";
            failures::tokenizer(Stage::Generate, message, hint)
        })
    }

    /// Returns the tokenizer's file, for messages.
    pub(crate) fn tokenizer_path(&self) -> &Path {
        self.text.as_ref().map_or(Path::new(SYNTHETIC_FILE), |text| text.codec().path())
    }
}

//! Text to token ids and back, by the model's own `tokenizer.json`.

use crate::fail;
use modelgate_model::Config;
use modelgate_protocol::{Failure, FailureKind, ModelFiles, Stage};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// How many more rows an embedding may have than its tokenizer has tokens: sizes are rounded up
/// for the hardware. Qwen2.5 has 399 rows too many.
const PADDING: usize = 1024;

/// A model's tokenizer.
pub(crate) struct TextCodec {
    tokenizer: Tokenizer,
    path: PathBuf,
}

impl TextCodec {
    /// Reads the tokenizer and compares it with the model: every id must have a row in the
    /// embedding, and the embedding no more rows than padding explains.
    pub(crate) fn open(files: &ModelFiles, config: &Config) -> Result<TextCodec, Failure> {
        let path = files.tokenizer.as_ref().ok_or_else(|| {
            failure(
                Stage::Load,
                format!("{} has no tokenizer.json", files.root.display()),
                "put the tokenizer.json of the original repository beside the weights",
            )
        })?;
        let bytes = std::fs::read(path).map_err(|error| fail::io(path, &error))?;
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| {
            failure(Stage::Load, format!("{}: {error}", path.display()), fail::FETCH_AGAIN)
        })?;
        // Left over from training in some files; a prompt must be neither cut nor filled up.
        tokenizer.with_padding(None);
        if let Err(error) = tokenizer.with_truncation(None) {
            return Err(failure(
                Stage::Load,
                format!("{}: {error}", path.display()),
                fail::FETCH_AGAIN,
            ));
        }
        let codec = TextCodec { tokenizer, path: path.clone() };
        codec.compare(config)?;
        Ok(codec)
    }

    fn compare(&self, config: &Config) -> Result<(), Failure> {
        let largest = self.tokenizer.get_vocab(true).into_values().max();
        let tokens = largest.map_or(0, |id| id as usize + 1);
        let spare = PADDING.max(config.vocab / 100);
        if tokens <= config.vocab && config.vocab - tokens <= spare {
            return Ok(());
        }
        Err(failure(
            Stage::Load,
            format!(
                "{} has {tokens} tokens, but the model's embedding has {} rows; expected as many, \
                 or up to {spare} more rows",
                self.path.display(),
                config.vocab
            ),
            "tokenizer and weights are not of the same model: fetch both from one repository",
        ))
    }

    /// Where it came from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Token ids of a text; `special` adds what the tokenizer puts around every text.
    pub(crate) fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, Failure> {
        let encoding = self
            .tokenizer
            .encode_fast(text, special)
            .map_err(|error| self.cannot("encode a text", &error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of token ids, special tokens left out.
    pub(crate) fn decode(&self, tokens: &[u32]) -> Result<String, Failure> {
        self.tokenizer.decode(tokens, true).map_err(|error| self.cannot("decode tokens", &error))
    }

    fn cannot(&self, what: &str, error: &tokenizers::Error) -> Failure {
        let message = format!("{} cannot {what}: {error}", self.path.display());
        failure(Stage::Generate, message, fail::FETCH_AGAIN)
    }
}

/// A failure of tokenizer or template.
pub(crate) fn failure(stage: Stage, message: String, hint: &str) -> Failure {
    Failure::new(stage, FailureKind::Tokenizer, message, hint)
}

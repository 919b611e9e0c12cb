//! The vocabulary in the metadata of a GGUF file: its tokens, their scores, and the way to split texts.

use super::metadata::{Metadata, whole_number};
use super::pre_tokenizers::{PRE_TOKENIZERS, PreTokenizer};
use super::tokens::{Token, TokenKind};
use crate::failures;
use candle_core::quantized::gguf_file::Value;
use modelgate_protocol::{Failure, Stage};
use std::path::Path;

/// The longest token, in bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 1024;

/// The most tokens: the largest published vocabulary has 262,144.
const MAX_TOKENS: usize = 1 << 19;

/// The key of the list of tokens.
pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";

/// The vocabulary in the metadata of a GGUF file.
pub(super) struct GgufVocabulary(Metadata);

impl GgufVocabulary {
    /// Creates the vocabulary of a file.
    pub(super) fn new(metadata: Metadata) -> GgufVocabulary {
        GgufVocabulary(metadata)
    }

    /// Returns the metadata.
    pub(super) fn metadata(&self) -> &Metadata {
        &self.0
    }

    /// Returns the file.
    pub(super) fn file(&self) -> &Path {
        self.0.path()
    }

    /// Reads the tokens.
    pub(super) fn tokens(&self) -> Result<Vec<Token<'_>>, Failure> {
        let texts = self.array(TOKENS)?;
        if texts.len() > MAX_TOKENS {
            return Err(self.too_many(TOKENS, texts.len(), MAX_TOKENS));
        }
        let kinds = self.checked(self.0.list("tokenizer.ggml.token_type"))?.unwrap_or_default();
        if !kinds.is_empty() {
            self.same_length("tokenizer.ggml.token_type", kinds.len(), texts.len())?;
        }
        let mut tokens = Vec::with_capacity(texts.len());
        for (id, text) in texts.iter().enumerate() {
            let unsound =
                |what: String| self.unsound(format!("metadata: token {id} of {TOKENS} {what}"));
            let Value::String(text) = text else {
                return Err(unsound("is no text".into()));
            };
            if text.len() > MAX_TOKEN_BYTES {
                let what = format!("has {} bytes, expected at most {MAX_TOKEN_BYTES}", text.len());
                return Err(unsound(what));
            }
            let kind = match kinds.get(id).map(whole_number) {
                None => TokenKind::Normal,
                Some(number) => number.and_then(TokenKind::of).ok_or_else(|| {
                    unsound(format!("is of type {:?}, expected 1 to 6", kinds[id]))
                })?,
            };
            tokens.push(Token { id, text, kind });
        }
        Ok(tokens)
    }

    /// Reads the scores of `tokens` tokens.
    pub(super) fn scores(&self, tokens: usize) -> Result<Vec<f32>, Failure> {
        let key = "tokenizer.ggml.scores";
        let values = self.array(key)?;
        self.same_length(key, values.len(), tokens)?;
        let score = |(id, value): (usize, &Value)| {
            let score = match value {
                Value::F32(score) if !score.is_nan() => Some(*score),
                _ => None,
            };
            score.ok_or_else(|| self.unsound(format!("metadata: {key} of token {id} is {value:?}")))
        };
        values.iter().enumerate().map(score).collect()
    }

    /// Reads the way to split texts into words.
    pub(super) fn pre_tokenizer(&self) -> Result<&'static PreTokenizer, Failure> {
        // files from before there was such a name get llama.cpp's default
        let name = self.checked(self.0.text("tokenizer.ggml.pre"))?.unwrap_or("default");
        PRE_TOKENIZERS.iter().find(|known| known.names.contains(&name)).ok_or_else(|| {
            let known: Vec<&str> =
                PRE_TOKENIZERS.iter().flat_map(|known| known.names).copied().collect();
            let what = format!("tokenizer.ggml.pre \"{name}\"; supported are {}", known.join(", "));
            self.unsupported(what)
        })
    }

    /// Reads a list that must be there.
    pub(super) fn array(&self, key: &str) -> Result<&[Value], Failure> {
        let missing = || self.unsound(format!("metadata: {key} is missing"));
        self.checked(self.0.list(key))?.ok_or_else(missing)
    }

    /// Makes a failure of an error of the metadata.
    pub(super) fn checked<T>(&self, value: Result<T, String>) -> Result<T, Failure> {
        value.map_err(|what| self.unsound(what))
    }

    fn same_length(&self, key: &str, found: usize, tokens: usize) -> Result<(), Failure> {
        if found == tokens {
            return Ok(());
        }
        Err(self
            .unsound(format!("metadata: {key} has {found} values, and there are {tokens} tokens")))
    }

    /// Makes the failure for a list that is too long.
    pub(super) fn too_many(&self, key: &str, found: usize, max: usize) -> Failure {
        self.unsound(format!("metadata: {key} has {found} values, expected at most {max}"))
    }

    /// Makes the failure for a vocabulary that is not sound.
    pub(super) fn unsound(&self, what: String) -> Failure {
        let message = format!("{}: {what}", self.file().display());
        failures::tokenizer(Stage::Load, message, failures::FETCH_AGAIN)
    }

    /// Makes the failure for a vocabulary that is not supported.
    pub(super) fn unsupported(&self, what: String) -> Failure {
        failures::tokenizer(
            Stage::Load,
            format!("{}: no tokenizer can be created from {what}", self.file().display()),
            "put the tokenizer.json of the original repository next to the weights",
        )
    }
}

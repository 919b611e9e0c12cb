//! The vocabulary in the metadata of a GGUF file: the tokens, their scores, and the rule that
//! splits texts.

use super::metadata::{Metadata, whole_number};
use super::pre_tokenizers::{PRE_TOKENIZERS, PreTokenizer};
use super::tokens::{Token, TokenKind};
use crate::failures;
use candle_core::quantized::gguf_file::Value;
use modelgate_protocol::{Failure, Stage};
use std::path::Path;

/// The maximum length of a token in bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 1024;

/// The maximum number of tokens. The largest published vocabulary has 262,144.
const MAX_TOKENS: usize = 1 << 19;

/// The metadata key of the list of tokens.
pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";

/// The metadata key of the rule that splits texts before the merges.
pub(super) const PRE_TOKENIZER: &str = "tokenizer.ggml.pre";

/// The vocabulary in the metadata of a GGUF file. Every error names the file.
pub(super) struct GgufVocabulary(Metadata);

impl GgufVocabulary {
    /// Creates the vocabulary from the metadata of a file.
    pub(super) fn new(metadata: Metadata) -> GgufVocabulary {
        GgufVocabulary(metadata)
    }

    /// Returns all metadata of the file.
    pub(super) fn metadata(&self) -> &Metadata {
        &self.0
    }

    /// Returns the path of the file.
    pub(super) fn file(&self) -> &Path {
        self.0.path()
    }

    /// Reads all tokens, in the order of their ids.
    ///
    /// # Errors
    /// The list of tokens is missing or too long, or a token is invalid.
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
            let invalid =
                |what: String| self.invalid(format!("metadata: token {id} of {TOKENS} {what}"));
            let Value::String(text) = text else {
                return Err(invalid("is not a string".into()));
            };
            if text.len() > MAX_TOKEN_BYTES {
                let what = format!("has {} bytes, expected at most {MAX_TOKEN_BYTES}", text.len());
                return Err(invalid(what));
            }
            let kind = match kinds.get(id).map(whole_number) {
                None => TokenKind::Normal,
                Some(number) => number
                    .and_then(TokenKind::from_number)
                    .ok_or_else(|| invalid(format!("has type {:?}, expected 1 to 6", kinds[id])))?,
            };
            tokens.push(Token { id, text, kind });
        }
        Ok(tokens)
    }

    /// Reads the scores of a vocabulary of `tokens` tokens.
    ///
    /// # Errors
    /// The list is missing, has another length, or contains a value that is not a number.
    pub(super) fn scores(&self, tokens: usize) -> Result<Vec<f32>, Failure> {
        let key = "tokenizer.ggml.scores";
        let values = self.array(key)?;
        self.same_length(key, values.len(), tokens)?;
        let score = |(id, value): (usize, &Value)| {
            let score = match value {
                Value::F32(score) if !score.is_nan() => Some(*score),
                _ => None,
            };
            score.ok_or_else(|| {
                self.invalid(format!(
                    "metadata: {key} of token {id}: expected a number, found {value:?}"
                ))
            })
        };
        values.iter().enumerate().map(score).collect()
    }

    /// Reads the name of the rule that splits texts into words, and returns the rule.
    ///
    /// # Errors
    /// The rule is not supported.
    pub(super) fn pre_tokenizer(&self) -> Result<&'static PreTokenizer, Failure> {
        // older files do not have this key, and llama.cpp uses its default rule for them
        let name = self.checked(self.0.text(PRE_TOKENIZER))?.unwrap_or("default");
        PRE_TOKENIZERS.iter().find(|known| known.names.contains(&name)).ok_or_else(|| {
            let known: Vec<&str> =
                PRE_TOKENIZERS.iter().flat_map(|known| known.names).copied().collect();
            let what =
                format!("tokenizer.ggml.pre \"{name}\": expected one of {}", known.join(", "));
            self.unsupported(what)
        })
    }

    /// Reads a required list.
    ///
    /// # Errors
    /// The key is missing, or its value is not a list.
    pub(super) fn array(&self, key: &str) -> Result<&[Value], Failure> {
        let missing = || self.invalid(format!("metadata: {key} is missing"));
        self.checked(self.0.list(key))?.ok_or_else(missing)
    }

    /// Converts an error of the metadata to a failure.
    pub(super) fn checked<T>(&self, value: Result<T, String>) -> Result<T, Failure> {
        value.map_err(|what| self.invalid(what))
    }

    fn same_length(&self, key: &str, found: usize, tokens: usize) -> Result<(), Failure> {
        if found == tokens {
            return Ok(());
        }
        Err(self.invalid(format!(
            "metadata: {key} has {found} values, but the vocabulary has {tokens} tokens"
        )))
    }

    /// Creates the failure for a list that is too long.
    pub(super) fn too_many(&self, key: &str, found: usize, max: usize) -> Failure {
        self.invalid(format!("metadata: {key} has {found} values, expected at most {max}"))
    }

    /// Creates the failure for an invalid vocabulary.
    pub(super) fn invalid(&self, what: String) -> Failure {
        let message = format!("{}: {what}", self.file().display());
        failures::tokenizer(Stage::Load, message, failures::DOWNLOAD_AGAIN_HINT)
    }

    /// Creates the failure for a vocabulary that is not supported.
    pub(super) fn unsupported(&self, what: String) -> Failure {
        failures::tokenizer(
            Stage::Load,
            format!("{}: the tokenizer is not supported: {what}", self.file().display()),
            "put the tokenizer.json of the original repository next to the weights",
        )
    }
}

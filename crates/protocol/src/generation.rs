//! Answers, and how well the numbers behind them hold up.

use crate::Finite;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Generation {
    /// Its name in the request.
    pub name: String,
    /// The prompt as the chat template rendered it.
    pub inputs: Vec<String>,
    /// Token ids of the prompt.
    pub prompt_tokens: Vec<u32>,
    /// Token ids of the answer, a stop token included.
    pub tokens: Vec<u32>,
    /// The answer as text, special tokens left out. Bytes that are not UTF-8 show as U+FFFD.
    pub text: String,
    /// Natural logarithm of the probability of each chosen token; null where it is not finite.
    pub logprobs: Vec<Option<Finite>>,
    /// NaN and infinite values among all logits of all steps.
    pub nonfinite_logits: u64,
    /// Seconds from the prompt's first token in to the answer's first token out.
    pub time_to_first_token_s: Option<Finite>,
    /// Tokens per second after the first; `None` if there are fewer than two.
    pub decode_tokens_per_s: Option<Finite>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Whether a second generation of the same prompt gave the same tokens.
    pub repeated_identically: bool,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token.
    Stop,
    /// The limit on tokens.
    Length,
}

/// How surprised the model is by a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Perplexity {
    /// SHA-256 of the text, in hexadecimal.
    pub text_sha256: String,
    /// Tokens that were predicted.
    pub tokens: u64,
    /// exp of the mean negative log likelihood; null where it is not finite.
    pub value: Option<Finite>,
}

/// How well the first layers of a model on its device agree with the same layers on the CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Agreement {
    /// Layers that were compared.
    pub layers: u32,
    /// Tokens that went through them.
    pub tokens: u32,
    /// Norm of the difference of a token's logits over the norm of the CPU's: the largest, and of a
    /// mixture of experts what three quarters of the tokens have at most, since a router may be about
    /// to choose either of two experts. Null where it is not finite.
    pub relative_error: Option<Finite>,
}

//! Answers, perplexity, and the agreement with the CPU.

use crate::Finite;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Generation {
    /// The name of the question in the request.
    pub name: String,
    /// The prompt, rendered with the chat template.
    pub inputs: Vec<String>,
    /// The token ids of the prompt.
    pub prompt_tokens: Vec<u32>,
    /// The token ids of the answer, with the stop token.
    pub tokens: Vec<u32>,
    /// The answer as text, without special tokens. Bytes that are not UTF-8 become U+FFFD.
    pub text: String,
    /// The natural logarithm of the probability of each chosen token; null if it is not finite.
    pub logprobs: Vec<Option<Finite>>,
    /// The number of NaN and infinite values among all logits of all steps.
    #[serde(alias = "nonfinite_logits")]
    pub non_finite_logits: u64,
    /// Seconds from the start of the prompt to the first token of the answer.
    pub time_to_first_token_s: Option<Finite>,
    /// Tokens per second after the first token. `None` for fewer than two tokens.
    pub decode_tokens_per_s: Option<Finite>,
    /// Why the generation ended.
    pub finish_reason: FinishReason,
    /// Whether a second generation from the same prompt gave the same tokens.
    pub repeated_identically: bool,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token was generated.
    Stop,
    /// The maximum number of tokens was reached.
    Length,
}

/// The perplexity of a model on a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Perplexity {
    /// The SHA-256 of the text in hexadecimal.
    pub text_sha256: String,
    /// The number of predicted tokens.
    pub tokens: u64,
    /// The exponential of the mean negative log likelihood; null if it is not finite.
    pub value: Option<Finite>,
}

/// The agreement of the first layers of a model on its device with the same layers on the CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Agreement {
    /// The number of compared layers.
    pub layers: u32,
    /// The number of compared tokens.
    pub tokens: u32,
    /// The norm of the difference of the logits of a token, divided by the norm on the CPU. The
    /// maximum over tokens; for a mixture of experts the third quartile, because a router may be
    /// undecided between two experts. Null if it is not finite.
    pub relative_error: Option<Finite>,
}

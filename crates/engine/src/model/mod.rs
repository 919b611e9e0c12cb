//! Builds a model from its files: a decoder with its weights, its tokenizer and its chat template.

mod loaded;
mod loading;
mod rope_frequencies;
mod stop_tokens;

pub(crate) use loaded::LOGIT_ROWS;
pub use loaded::Model;

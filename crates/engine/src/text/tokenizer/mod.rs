//! Converts text to token ids and back with the tokenizer of the model, which is a `tokenizer.json`
//! or is converted from the weight files.

mod codec;
mod library;
mod prompt;
mod reserved;
mod special_tokens;
mod tokenizer_json;

pub(crate) use codec::TextCodec;
pub use prompt::Prompt;
pub(crate) use reserved::is_reserved;
pub(crate) use special_tokens::SpecialTokens;

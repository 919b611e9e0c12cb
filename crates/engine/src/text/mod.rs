//! The text interface of a model: its tokenizer and its chat template.

mod chat;
mod model_text;
mod tokenizer;

pub(crate) use chat::ChatTemplate;
pub(crate) use model_text::ModelText;
pub use tokenizer::Prompt;
pub(crate) use tokenizer::TextCodec;

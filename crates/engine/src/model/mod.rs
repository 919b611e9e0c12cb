//! A loaded model: files in, a decoder with its tokenizer out.

mod loaded;
mod loading;
mod rope_frequencies;
mod stop_tokens;

pub(crate) use loaded::LOGIT_ROWS;
pub use loaded::Model;

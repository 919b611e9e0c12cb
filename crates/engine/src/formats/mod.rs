//! Formats of weight files: which tensors the files hold and where, what the files say of the model,
//! and how loading has to treat them.
//!
//! A format is one row of the table in `registry.rs` and implements [`Format`]. Opening files reads
//! headers only and checks every offset against the file's size, so that any tensor can be read
//! afterwards without further checks. Files are read at positions, never mapped: a mapped page counts
//! as memory of the process, and a file that shrinks while it is mapped kills it.

mod config_json;
mod embedded_text;
mod format;
mod gguf;
mod registry;
mod safetensors;
mod source;
mod synthetic;

pub(crate) use embedded_text::EmbeddedText;
pub(crate) use format::{Conversion, Format, Opened};
pub(crate) use gguf::{Gguf, ROPE_FACTORS};
pub(crate) use registry::format_of;
pub(crate) use safetensors::open_safetensors;
pub(crate) use source::{SYNTHETIC_FILE, Source, SourceTensor};

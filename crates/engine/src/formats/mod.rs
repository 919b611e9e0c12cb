//! Weight file formats: the tensors in the files and their places, the config of the model, and the
//! conversion of the tensors during loading.
//!
//! A format is one row of the table in `registry.rs` and implements [`Format`]. Opening the files
//! reads only their headers and checks every offset against the size of the file, so that any
//! tensor can be read later without further checks. Files are read at positions and never mapped
//! into memory: a mapped page counts as memory of the process, and the process is killed if a
//! mapped file shrinks.

mod checkpoint_names;
mod config_json;
mod embedded_text;
mod format;
mod gguf;
mod merged_experts;
mod mlx;
mod registry;
mod safetensors;
mod source;
mod synthetic;
mod wrapped_names;

pub(crate) use embedded_text::EmbeddedText;
pub(crate) use format::{Conversion, Format, OpenedModel};
pub(crate) use gguf::{Gguf, ROPE_FACTORS};
pub(crate) use registry::format_of;
pub(crate) use safetensors::open_safetensors;
pub(crate) use source::{SYNTHETIC_FILE, Source, SourceTensor};

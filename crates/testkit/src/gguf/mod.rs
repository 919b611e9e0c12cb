//! Conversion of a safetensors folder to GGUF, equivalent to llama.cpp's `convert_hf_to_gguf.py`:
//! the same tensor names and metadata, and for the architecture `llama` rows of q and k permuted
//! for interleaved RoPE. Files can be split into parts like those of `llama-gguf-split`.

mod layout;
mod metadata;
mod names;
mod rope;
mod types;
mod vocabulary;
mod writer;

pub use candle_core::quantized::GgmlDType;
pub use layout::{Layout, layout};
pub(crate) use metadata::metadata_without_tokenizer;
pub use names::gguf_name;
pub(crate) use names::merged_expert_name;
pub(crate) use rope::rope_factors;
pub(crate) use types::type_number;
pub use types::{q4_k_m, type_by_name, uniform};
pub use writer::{Experts, GgufWriter, TypeOf, Vocabulary, write_from_safetensors};

//! GGUF files made from a safetensors folder the way llama.cpp's `convert_hf_to_gguf.py` makes them: its
//! names, its metadata, rows of q and k permuted for interleaved RoPE for its architecture `llama`, and
//! split in parts as `llama-gguf-split` splits.

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
pub(crate) use names::merged;
pub(crate) use rope::rope_factors;
pub(crate) use types::type_number;
pub use types::{named, q4_k_m, uniform};
pub use writer::{Experts, GgufWriter, TypeOf, Vocabulary, write_from_safetensors};

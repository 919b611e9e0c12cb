//! GGUF files, single or split into parts. The names of tensors and the metadata keys are those of
//! llama.cpp (`gguf-py/gguf/constants.py`, `llama-arch.cpp`).

mod architecture;
mod description;
mod embedded;
mod end_of_generation;
mod files;
mod format;
mod header;
mod merges;
mod metadata;
mod pre_tokenizers;
mod tokenizer_json;
mod tokens;
mod vocabulary;

pub(crate) use files::Gguf;
pub(super) use format::GgufFormat;
pub(crate) use format::ROPE_FACTORS;

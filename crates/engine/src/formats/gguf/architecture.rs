//! The supported architectures of GGUF files.

use crate::weights::RopeLayout;

/// A supported architecture, in the sense of the metadata key `general.architecture`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    /// Llama, Mistral and Mixtral. The rows of the query and key matrices are permuted for
    /// interleaved RoPE.
    Llama,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// The text models of Qwen2-VL, Qwen2.5-VL and Qwen2.5-Omni: Qwen2 with multimodal RoPE.
    Qwen2Vl,
}

impl Architecture {
    /// All supported architectures.
    pub(super) const ALL: [Architecture; 3] =
        [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen2Vl];

    /// Returns llama.cpp's name, which is also the prefix of the metadata keys of the architecture.
    pub(super) fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen2Vl => "qwen2vl",
        }
    }

    /// Returns the architecture with llama.cpp's `name`; `None` if it is not supported.
    pub(super) fn from_name(name: &str) -> Option<Architecture> {
        Architecture::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// Returns the order of the rows in the matrices of queries and keys.
    pub(super) fn rope_layout(self) -> RopeLayout {
        match self {
            Architecture::Llama => RopeLayout::Interleaved,
            Architecture::Qwen2 | Architecture::Qwen2Vl => RopeLayout::Halves,
        }
    }
}

//! The architectures of GGUF files that are supported.

use crate::weights::RopeLayout;

/// An architecture by llama.cpp's name of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    /// Llama, Mistral and Mixtral, with rows of q and k permuted for interleaved RoPE.
    Llama,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// The text model of Qwen2-VL, Qwen2.5-VL and Qwen2.5-Omni: Qwen2 with multimodal RoPE.
    Qwen2Vl,
}

impl Architecture {
    /// Every architecture.
    pub(super) const ALL: [Architecture; 3] =
        [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen2Vl];

    /// Returns the name, with which the keys of its metadata begin too.
    pub(super) fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen2Vl => "qwen2vl",
        }
    }

    /// Returns the architecture of that name.
    pub(super) fn from_name(name: &str) -> Option<Architecture> {
        Architecture::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// Returns the order of the rows of q and k.
    pub(super) fn rope_layout(self) -> RopeLayout {
        match self {
            Architecture::Llama => RopeLayout::Interleaved,
            Architecture::Qwen2 | Architecture::Qwen2Vl => RopeLayout::Halves,
        }
    }
}

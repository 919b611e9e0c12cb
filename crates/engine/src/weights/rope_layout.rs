//! How the rows of a head in the matrices of queries and keys are ordered.

/// The two values of a head that rotary position embedding turns as a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RopeLayout {
    /// i and i + half: Hugging Face checkpoints.
    Halves,
    /// 2 i and 2 i + 1: GGUF files of the Llama family, whose rows of q and k are permuted for it.
    Interleaved,
}

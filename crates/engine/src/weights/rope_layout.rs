//! The order of the rows of a head in the matrices of queries and keys.

/// The pairs of values of a head that rotary position embedding (RoPE) rotates together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RopeLayout {
    /// The values i and i + width / 2 are a pair (Hugging Face checkpoints).
    Halves,
    /// The values 2 i and 2 i + 1 are a pair (GGUF files of the Llama family, whose query and key
    /// rows are permuted accordingly).
    Interleaved,
}

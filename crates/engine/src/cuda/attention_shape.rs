//! The sizes of attention over a KV cache.

/// The sizes of attention over a KV cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionShape {
    /// The number of query heads.
    pub(crate) heads: usize,
    /// The number of key and value heads, a divisor of `heads`.
    pub(crate) kv_heads: usize,
    /// The number of values in a head.
    pub(crate) width: usize,
}

//! The inputs that all layers share while they evaluate a batch of tokens.

use super::mask::Mask;
use candle_core::Tensor;

/// The inputs that all layers share while they evaluate a batch of consecutive tokens: the RoPE
/// angles of the positions, and the masks.
pub(super) struct Step {
    /// The position of the first token.
    pub(super) start: usize,
    /// The cosines (n, pairs of a head) of the tokens' positions; on a device those of all
    /// positions.
    pub(super) cos: Tensor,
    /// The sines, in the same form as the cosines.
    pub(super) sin: Tensor,
    /// The position of the first token (1), u32, in device memory; `None` on the CPU.
    pub(super) position: Option<Tensor>,
    /// The mask of layers without a sliding window.
    pub(super) mask: Mask,
    /// The mask of layers with a sliding window.
    pub(super) windowed_mask: Mask,
}

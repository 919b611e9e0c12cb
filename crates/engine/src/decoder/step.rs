//! What all layers share while they evaluate some tokens.

use super::mask::Mask;
use candle_core::Tensor;

/// What all layers share while they evaluate some tokens: the angles of the positions, and the
/// masks.
pub(super) struct Step {
    /// The position of the first token.
    pub(super) start: usize,
    /// Cosines of the tokens' positions; on a device those of all positions.
    pub(super) cos: Tensor,
    /// Sines, likewise.
    pub(super) sin: Tensor,
    /// The position of the first token, in memory of the device; `None` on the CPU.
    pub(super) position: Option<Tensor>,
    pub(super) mask: Mask,
    /// The mask of layers with a sliding window.
    pub(super) windowed: Mask,
}

//! Selects the kernel of a product.

#[cfg(target_arch = "x86_64")]
use super::{tiles, unpack::UnpackedLayout, vnni::Vnni};
use crate::blocks::Block;
#[cfg(target_arch = "x86_64")]
use crate::blocks::bytes;
use candle_core::Result;
use candle_core::quantized::k_quants;

/// Writes the products of each row of `x` (m, k) with each row of `blocks` (n, k) to `out` (m, n).
///
/// # Errors
/// candle's kernel fails.
pub(crate) fn product<T: Block>(
    (m, k, n): (usize, usize, usize),
    x: &[f32],
    blocks: &[T],
    out: &mut [f32],
) -> Result<()> {
    assert_eq!((x.len(), blocks.len() * T::BLCK_SIZE, out.len()), (m * k, n * k, m * n));
    #[cfg(target_arch = "x86_64")]
    if let (Some(vnni), Some(layout)) = (Vnni::detect(), UnpackedLayout::of(T::DTYPE))
        && layout.is_faster_than_candle(m)
    {
        let weights = tiles::Weights { layout, bytes: bytes(blocks), columns: n, depth: k };
        tiles::product(vnni, &weights, x, out);
        return Ok(());
    }
    k_quants::matmul((m, k, n), x, blocks, out)?;
    // candle loses NaN and infinity when it rounds rows, which would hide the defect of a model
    for (x, out) in x.chunks(k).zip(out.chunks_mut(n)) {
        if !x.iter().all(|value| value.is_finite()) {
            out.fill(f32::NAN);
        }
    }
    Ok(())
}

//! Products of f32 rows with rows of quantized blocks, on all cores. Knows no model and no tensor:
//! plain slices in, plain slices out.
//!
//! Weights are used as they are resident. Where the processor has AVX-512 VNNI, a tile of them is
//! unpacked into the first cache, to one form for all types, and meets all rows of `x`, which are
//! rounded to 8 bits, before the next one is: what unpacking costs is shared by the rows. A single
//! row shares it with nobody, and meets the blocks themselves. Other processors take candle's
//! kernels of the blocks.

#[cfg(target_arch = "x86_64")]
mod activations;
#[cfg(target_arch = "x86_64")]
mod share;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod unpack;
#[cfg(target_arch = "x86_64")]
mod vnni;

use crate::storage::Block;
use candle_core::Result;
use candle_core::quantized::k_quants;

/// Writes to `out`, (m, n), the products of each of the m rows of `x` with each of the n rows of
/// `blocks`, all of which have k values.
pub(crate) fn product<T: Block>(
    (m, k, n): (usize, usize, usize),
    x: &[f32],
    blocks: &[T],
    out: &mut [f32],
) -> Result<()> {
    assert_eq!((x.len(), blocks.len() * T::BLCK_SIZE, out.len()), (m * k, n * k, m * n));
    #[cfg(target_arch = "x86_64")]
    if let (Some(vnni), Some(form)) = (vnni::Vnni::detect(), unpack::Form::of(T::DTYPE))
        && form.pays(m)
    {
        let weights =
            tiles::Weights { form, bytes: crate::storage::bytes(blocks), columns: n, depth: k };
        tiles::product(vnni, &weights, x, out);
        return Ok(());
    }
    k_quants::matmul((m, k, n), x, blocks, out)?;
    // candle loses NaN and infinity when it rounds rows, and a broken model must stay broken
    for (x, out) in x.chunks(k).zip(out.chunks_mut(n)) {
        if !x.iter().all(|value| value.is_finite()) {
            out.fill(f32::NAN);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

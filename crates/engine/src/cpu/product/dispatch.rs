//! Chooses the kernel of a product.

#[cfg(target_arch = "x86_64")]
use super::{tiles, unpack::Form, vnni::Vnni};
use crate::blocks::Block;
#[cfg(target_arch = "x86_64")]
use crate::blocks::bytes;
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
    if let (Some(vnni), Some(form)) = (Vnni::detect(), Form::of(T::DTYPE))
        && form.pays(m)
    {
        let weights = tiles::Weights { form, bytes: bytes(blocks), columns: n, depth: k };
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

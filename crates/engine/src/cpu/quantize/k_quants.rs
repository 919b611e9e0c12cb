//! Quantizes values to blocks of q4_k, q5_k and q6_k as ggml's reference quantizers do
//! (`quantize_row_q4_K_ref`, `_q5_K_ref` and `_q6_K_ref` in `ggml-quants.c`, llama.cpp).
//!
//! A block holds 256 values in runs of 32 or 16. Each run has a scale, and in q4_k and q5_k a
//! minimum, in whole steps of an f16 of the block. If a run's scale rounds to zero steps its quants
//! mean nothing: here they are 0, in ggml the last candidates of its search.
//!
//! Knows bytes, and no type of candle. `scale_min_search` and `scale_search` find the scales; the
//! caller checks whether f16 holds them by reading the values back.

use super::run_batch::{LANES, nearest, transposed};
use super::scale_min_search::{Candidates, ScaleMin, best_scale_min};
use super::scale_search::{HALF, best_scales};
use half::f16;

/// Values in a block.
const BLOCK: usize = 256;

/// A type of blocks: how values become their bytes.
pub(super) trait BlockFormat {
    /// Bytes of a block.
    const BYTES: usize;
    /// Values in a run.
    const RUN: usize;

    /// Writes as many blocks as `LANES` runs make, or fewer.
    fn write(values: &[f32], blocks: &mut [u8]);
}

/// Writes finite `values`, a whole number of blocks, as `blocks`.
pub(super) fn write<F: BlockFormat>(values: &[f32], blocks: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: this processor has AVX2.
        return unsafe { write_with_avx2::<F>(values, blocks) };
    }
    write_plainly::<F>(values, blocks);
}

/// Runs the same code in wider registers: the same bytes, half as fast again.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn write_with_avx2<F: BlockFormat>(values: &[f32], blocks: &mut [u8]) {
    write_plainly::<F>(values, blocks);
}

#[inline(always)]
fn write_plainly<F: BlockFormat>(values: &[f32], blocks: &mut [u8]) {
    let values_at_once = LANES * F::RUN;
    let blocks = blocks.chunks_mut(values_at_once / BLOCK * F::BYTES);
    for (values, blocks) in values.chunks(values_at_once).zip(blocks) {
        F::write(values, blocks);
    }
}

/// Blocks of f16 scale, f16 minimum, steps of both, and quants of 4 bits.
pub(super) struct Q4K;

impl BlockFormat for Q4K {
    const BYTES: usize = 144;
    const RUN: usize = 32;

    #[inline(always)]
    fn write(values: &[f32], blocks: &mut [u8]) {
        let candidates = Candidates { levels: 15.0, first: -1.0, count: 21 };
        let (blocks, _) = blocks.as_chunks_mut::<{ Self::BYTES }>();
        write_with_minima(values, &candidates, blocks, |quants, block| {
            write_nibbles(quants, &mut block[16..]);
        });
    }
}

/// As q4_k, with the fifth bits of all quants before the others.
pub(super) struct Q5K;

impl BlockFormat for Q5K {
    const BYTES: usize = 176;
    const RUN: usize = 32;

    #[inline(always)]
    fn write(values: &[f32], blocks: &mut [u8]) {
        let candidates = Candidates { levels: 31.0, first: -0.5, count: 16 };
        let (blocks, _) = blocks.as_chunks_mut::<{ Self::BYTES }>();
        write_with_minima(values, &candidates, blocks, |quants, block| {
            for place in 0..32 {
                let fifth_bit = |run: usize| (quants[run][place] >> 4) << run;
                block[16 + place] = (0..8).map(fifth_bit).sum();
            }
            write_nibbles(quants, &mut block[48..]);
        });
    }
}

/// Writes the first 16 bytes of blocks; `write_quants` writes the others.
#[inline(always)]
fn write_with_minima<const BYTES: usize>(
    values: &[f32],
    candidates: &Candidates,
    blocks: &mut [[u8; BYTES]],
    write_quants: impl Fn(&[[u8; 32]; 8], &mut [u8; BYTES]),
) {
    let ScaleMin { scale, minimum } = best_scale_min(&transposed(values), candidates);
    let found = scale.as_chunks::<8>().0.iter().zip(minimum.as_chunks::<8>().0);
    let values = values.as_chunks::<BLOCK>().0;
    for ((block, values), (scales, minima)) in blocks.iter_mut().zip(values).zip(found) {
        let (scale, scales) = in_steps(scales);
        let (minimum, minima) = in_steps(&minima.map(|minimum| -minimum));
        block[0..2].copy_from_slice(&scale.to_le_bytes());
        block[2..4].copy_from_slice(&minimum.to_le_bytes());
        for run in 0..4 {
            block[4 + run] = scales[run] | (scales[run + 4] >> 4) << 6;
            block[8 + run] = minima[run] | (minima[run + 4] >> 4) << 6;
            block[12 + run] = (scales[run + 4] & 15) | (minima[run + 4] << 4);
        }
        let mut quants = [[0; 32]; 8];
        for (run, values) in values.as_chunks::<32>().0.iter().enumerate() {
            let scale = scale.to_f32() * f32::from(scales[run]);
            let minimum = minimum.to_f32() * f32::from(minima[run]);
            if scale != 0.0 {
                quants[run] = values
                    .map(|x| byte(nearest((x + minimum) / scale).clamp(0.0, candidates.levels)));
            }
        }
        write_quants(&quants, block);
    }
}

/// Returns the f16 of which the largest of `scales` is 63 steps, and all of them in steps.
#[inline(always)]
fn in_steps(scales: &[f32; 8]) -> (f16, [u8; 8]) {
    let most = scales.iter().fold(0f32, |most, scale| if *scale > most { *scale } else { most });
    let inverse = if most > 0.0 { 63.0 / most } else { 0.0 };
    (f16::from_f32(most / 63.0), scales.map(|scale| nearest(inverse * scale).min(63.0) as u8))
}

/// Writes the low 4 bits of quants: a byte has those of one run, and above them those of the next.
#[inline(always)]
fn write_nibbles(quants: &[[u8; 32]; 8], bytes: &mut [u8]) {
    for (runs, bytes) in quants.as_chunks::<2>().0.iter().zip(bytes.as_chunks_mut::<32>().0) {
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = (runs[0][place] & 15) | (runs[1][place] << 4);
        }
    }
}

/// Blocks of the low 4 bits of quants, their high 2 bits, steps of the scales, and f16 scale.
pub(super) struct Q6K;

impl BlockFormat for Q6K {
    const BYTES: usize = 210;
    const RUN: usize = 16;

    #[inline(always)]
    fn write(values: &[f32], blocks: &mut [u8]) {
        let scales = best_scales(&transposed(values));
        let blocks = blocks.as_chunks_mut::<{ Self::BYTES }>().0;
        let values = values.as_chunks::<BLOCK>().0;
        let found = scales.as_chunks::<16>().0;
        for ((block, values), scales) in blocks.iter_mut().zip(values).zip(found) {
            write_q6_k(values, scales, block);
        }
    }
}

#[inline(always)]
fn write_q6_k(values: &[f32; BLOCK], scales: &[f32; 16], block: &mut [u8; 210]) {
    block.fill(0);
    // NaN is kept, so that the caller sees it.
    let farther = |most: f32, scale: f32| {
        if scale.is_nan() || scale.abs() > most.abs() { scale } else { most }
    };
    let most = scales.iter().fold(0f32, |most, scale| farther(most, *scale));
    let inverse = -128.0 / most;
    let scale = f16::from_f32(1.0 / inverse);
    if scale.to_f32() == 0.0 {
        return;
    }
    block[208..].copy_from_slice(&scale.to_le_bytes());
    let mut quants = [[0; 16]; 16];
    for (run, values) in values.as_chunks::<16>().0.iter().enumerate() {
        let steps = nearest(inverse * scales[run]).min(127.0) as i8;
        block[192 + run] = steps as u8;
        let scale = scale.to_f32() * f32::from(steps);
        if scale != 0.0 {
            quants[run] = values.map(|x| byte(nearest(x / scale).clamp(-HALF, HALF - 1.0) + HALF));
        }
    }
    for (half, quants) in quants.as_flattened().as_chunks::<128>().0.iter().enumerate() {
        for place in 0..32 {
            let [a, b, c, d] = [0, 32, 64, 96].map(|quarter| quants[quarter + place]);
            block[64 * half + place] = (a & 15) | (c << 4);
            block[64 * half + 32 + place] = (b & 15) | (d << 4);
            block[128 + 32 * half + place] =
                (a >> 4) | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6;
        }
    }
}

/// Converts an integer of 0 to 255 to a byte, by operations that vector registers have.
#[inline(always)]
fn byte(value: f32) -> u8 {
    // The last bits of a float between 2^23 and 2^24 are its whole part.
    (value + 8_388_608.0).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<f32> {
        (0..2304).map(|n| ((n * n) as f32).sin() * ((n / 100) as f32).exp2()).collect()
    }

    fn plainly<F: BlockFormat>(values: &[f32]) -> Vec<u8> {
        let mut blocks = vec![0; values.len() / BLOCK * F::BYTES];
        write_plainly::<F>(values, &mut blocks);
        blocks
    }

    #[test]
    fn wider_registers_change_nothing() {
        fn check<F: BlockFormat>() {
            let mut blocks = vec![0; values().len() / BLOCK * F::BYTES];
            write::<F>(&values(), &mut blocks);
            assert_eq!(blocks, plainly::<F>(&values()));
        }
        check::<Q4K>();
        check::<Q5K>();
        check::<Q6K>();
    }

    #[test]
    fn a_block_is_the_same_alone_and_among_others() {
        fn check<F: BlockFormat>() {
            let alone = values().chunks(BLOCK).flat_map(plainly::<F>).collect::<Vec<_>>();
            assert_eq!(alone, plainly::<F>(&values()));
        }
        check::<Q4K>();
        check::<Q5K>();
        check::<Q6K>();
    }
}

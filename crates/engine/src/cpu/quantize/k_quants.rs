//! Quantizes values to blocks of q4_k, q5_k and q6_k like ggml's reference quantizers
//! (`quantize_row_q4_K_ref`, `_q5_K_ref` and `_q6_K_ref` in `ggml-quants.c`, llama.cpp).
//!
//! A block has 256 values in runs of 32 or 16. Each run has a scale, and in q4_k and q5_k also a
//! minimum. Both are stored as integer multiples (steps) of an f16 factor of the block. If the
//! scale of a run rounds to zero steps, its quants have no effect: here they are 0, in ggml they
//! are those of the last candidate of the search.
//!
//! The code operates on bytes, not on types of candle. `scale_min_search` and `scale_search` find
//! the scales. The caller reads the values back to check that the f16 factors are finite.

use super::run_batch::{LANES, nearest, transposed};
use super::scale_min_search::{Candidates, ScaleMin, best_scale_min};
use super::scale_search::{HALF, best_scales};
use half::f16;

/// The number of values in a block.
const BLOCK: usize = 256;

/// A block type, with the conversion of values to the bytes of its blocks.
pub(super) trait BlockFormat {
    /// The number of bytes of a block.
    const BYTES: usize;
    /// The number of values in a run.
    const RUN: usize;

    /// Writes the blocks of at most `LANES` runs.
    fn write(values: &[f32], blocks: &mut [u8]);
}

/// Quantizes finite `values` to the bytes `blocks`. The number of values is a multiple of
/// [`BLOCK`].
pub(super) fn write<F: BlockFormat>(values: &[f32], blocks: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: this processor has AVX2.
        return unsafe { write_with_avx2::<F>(values, blocks) };
    }
    write_portable::<F>(values, blocks);
}

/// Writes the same bytes as [`write_portable`]. It is about 1.5 times as fast, since the compiler
/// uses wider registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn write_with_avx2<F: BlockFormat>(values: &[f32], blocks: &mut [u8]) {
    write_portable::<F>(values, blocks);
}

#[inline(always)]
fn write_portable<F: BlockFormat>(values: &[f32], blocks: &mut [u8]) {
    let values_at_once = LANES * F::RUN;
    let blocks = blocks.chunks_mut(values_at_once / BLOCK * F::BYTES);
    for (values, blocks) in values.chunks(values_at_once).zip(blocks) {
        F::write(values, blocks);
    }
}

/// The q4_k block: f16 factor of the scales, f16 factor of the minima, 8 scales and 8 minima in 6
/// bits each, and 256 quants in 4 bits.
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

/// The q5_k block: the layout of q4_k, with the fifth bits of all quants before their low 4 bits.
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

/// Quantizes values to blocks with scales and minima. Writes the first 16 bytes of each block, and
/// calls `write_quants` with the 8 runs of 32 quants for the other bytes.
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

/// Returns the f16 factor that maps the largest of `scales` to 63 steps, and all scales in steps.
#[inline(always)]
fn in_steps(scales: &[f32; 8]) -> (f16, [u8; 8]) {
    let max = scales.iter().fold(0f32, |max, scale| if *scale > max { *scale } else { max });
    let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
    (f16::from_f32(max / 63.0), scales.map(|scale| nearest(inverse * scale).min(63.0) as u8))
}

/// Writes the low 4 bits of quants: a byte has those of one run in its lower half, and those of the
/// next run in its upper half.
#[inline(always)]
fn write_nibbles(quants: &[[u8; 32]; 8], bytes: &mut [u8]) {
    for (runs, bytes) in quants.as_chunks::<2>().0.iter().zip(bytes.as_chunks_mut::<32>().0) {
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = (runs[0][place] & 15) | (runs[1][place] << 4);
        }
    }
}

/// The q6_k block: the low 4 bits of 256 quants, their high 2 bits, 16 scales as signed bytes, and
/// the f16 factor of the scales.
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
    // NaN is preserved, so that the caller detects it.
    let farther = |farthest: f32, scale: f32| {
        if scale.is_nan() || scale.abs() > farthest.abs() { scale } else { farthest }
    };
    let farthest = scales.iter().fold(0f32, |farthest, scale| farther(farthest, *scale));
    let inverse = -128.0 / farthest;
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

/// Converts an integral float from 0 to 255 to a byte with operations that can be vectorized.
#[inline(always)]
fn byte(value: f32) -> u8 {
    // The low bits of a float between 2^23 and 2^24 are its integer part.
    (value + 8_388_608.0).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<f32> {
        (0..2304).map(|n| ((n * n) as f32).sin() * ((n / 100) as f32).exp2()).collect()
    }

    fn portable_blocks<F: BlockFormat>(values: &[f32]) -> Vec<u8> {
        let mut blocks = vec![0; values.len() / BLOCK * F::BYTES];
        write_portable::<F>(values, &mut blocks);
        blocks
    }

    #[test]
    fn avx2_and_portable_code_write_the_same_bytes() {
        fn check<F: BlockFormat>() {
            let mut blocks = vec![0; values().len() / BLOCK * F::BYTES];
            write::<F>(&values(), &mut blocks);
            assert_eq!(blocks, portable_blocks::<F>(&values()));
        }
        check::<Q4K>();
        check::<Q5K>();
        check::<Q6K>();
    }

    #[test]
    fn a_block_does_not_depend_on_its_neighbors() {
        fn check<F: BlockFormat>() {
            let alone = values().chunks(BLOCK).flat_map(portable_blocks::<F>).collect::<Vec<_>>();
            assert_eq!(alone, portable_blocks::<F>(&values()));
        }
        check::<Q4K>();
        check::<Q5K>();
        check::<Q6K>();
    }
}

//! Blocks of q4_k, q5_k and q6_k from values: those of ggml's reference quantizers
//! (`quantize_row_q4_K_ref` and its like in `ggml-quants.c`, llama.cpp).
//!
//! A block holds 256 values in runs of 32 or 16. Each run has a scale, and in q4_k and q5_k a
//! minimum, in whole steps of an f16 of the block. Where a run's scale comes out as no step at all
//! its quants mean nothing: here they are 0, in ggml what its search had in hand.
//!
//! Knows bytes, and no type of candle. How scales are found is the concern of `lines` and `scales`;
//! whether f16 holds them is the caller's, who sees values come back that are not finite.

use super::lanes::{LANES, nearest, side_by_side};
use super::lines::{Grid, lines};
use super::scales::{HALF, scales};
use half::f16;

/// Values in a block.
const BLOCK: usize = 256;

/// How values become the bytes of blocks.
pub(super) trait Format {
    /// Bytes of a block.
    const BYTES: usize;
    /// Values in a run.
    const RUN: usize;

    /// Writes as many blocks as `LANES` runs make, or fewer.
    fn write(values: &[f32], blocks: &mut [u8]);
}

/// Writes finite `values`, a whole number of blocks, as `blocks`.
pub(super) fn write<F: Format>(values: &[f32], blocks: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: this processor has AVX2.
        return unsafe { write_with_avx2::<F>(values, blocks) };
    }
    write_plainly::<F>(values, blocks);
}

/// The same code in wider registers: the same bytes, half as fast again.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn write_with_avx2<F: Format>(values: &[f32], blocks: &mut [u8]) {
    write_plainly::<F>(values, blocks);
}

#[inline(always)]
fn write_plainly<F: Format>(values: &[f32], blocks: &mut [u8]) {
    let values_at_once = LANES * F::RUN;
    let blocks = blocks.chunks_mut(values_at_once / BLOCK * F::BYTES);
    for (values, blocks) in values.chunks(values_at_once).zip(blocks) {
        F::write(values, blocks);
    }
}

/// f16 scale, f16 minimum, steps of both, quants of 4 bits.
pub(super) struct Q4K;

impl Format for Q4K {
    const BYTES: usize = 144;
    const RUN: usize = 32;

    #[inline(always)]
    fn write(values: &[f32], blocks: &mut [u8]) {
        let grid = Grid { levels: 15.0, first: -1.0, candidates: 21 };
        let (blocks, _) = blocks.as_chunks_mut::<{ Self::BYTES }>();
        write_with_minima(values, &grid, blocks, |quants, block| {
            write_nibbles(quants, &mut block[16..]);
        });
    }
}

/// As q4_k, with the fifth bits of all quants before the others.
pub(super) struct Q5K;

impl Format for Q5K {
    const BYTES: usize = 176;
    const RUN: usize = 32;

    #[inline(always)]
    fn write(values: &[f32], blocks: &mut [u8]) {
        let grid = Grid { levels: 31.0, first: -0.5, candidates: 16 };
        let (blocks, _) = blocks.as_chunks_mut::<{ Self::BYTES }>();
        write_with_minima(values, &grid, blocks, |quants, block| {
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
    grid: &Grid,
    blocks: &mut [[u8; BYTES]],
    write_quants: impl Fn(&[[u8; 32]; 8], &mut [u8; BYTES]),
) {
    let lines = lines(&side_by_side(values), grid);
    let found = lines.scale.as_chunks::<8>().0.iter().zip(lines.minimum.as_chunks::<8>().0);
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
                quants[run] =
                    values.map(|x| byte(nearest((x + minimum) / scale).clamp(0.0, grid.levels)));
            }
        }
        write_quants(&quants, block);
    }
}

/// The f16 of which the largest of `scales` is 63 steps, and all of them in steps.
#[inline(always)]
fn in_steps(scales: &[f32; 8]) -> (f16, [u8; 8]) {
    let most = scales.iter().fold(0f32, |most, scale| if *scale > most { *scale } else { most });
    let inverse = if most > 0.0 { 63.0 / most } else { 0.0 };
    (f16::from_f32(most / 63.0), scales.map(|scale| nearest(inverse * scale).min(63.0) as u8))
}

/// The low 4 bits of quants: a byte has one of a run, and above it one of the next run.
#[inline(always)]
fn write_nibbles(quants: &[[u8; 32]; 8], bytes: &mut [u8]) {
    for (runs, bytes) in quants.as_chunks::<2>().0.iter().zip(bytes.as_chunks_mut::<32>().0) {
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = (runs[0][place] & 15) | (runs[1][place] << 4);
        }
    }
}

/// Low 4 bits of quants, high 2 bits, steps of the scales, f16 scale.
pub(super) struct Q6K;

impl Format for Q6K {
    const BYTES: usize = 210;
    const RUN: usize = 16;

    #[inline(always)]
    fn write(values: &[f32], blocks: &mut [u8]) {
        let scales = scales(&side_by_side(values));
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
    // What is NaN stays, for the caller to see.
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

/// A whole number of 0 to 255 as a byte, by operations that vector registers have.
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

    fn plainly<F: Format>(values: &[f32]) -> Vec<u8> {
        let mut blocks = vec![0; values.len() / BLOCK * F::BYTES];
        write_plainly::<F>(values, &mut blocks);
        blocks
    }

    #[test]
    fn wider_registers_change_nothing() {
        fn check<F: Format>() {
            let mut blocks = vec![0; values().len() / BLOCK * F::BYTES];
            write::<F>(&values(), &mut blocks);
            assert_eq!(blocks, plainly::<F>(&values()));
        }
        check::<Q4K>();
        check::<Q5K>();
        check::<Q6K>();
    }

    #[test]
    fn a_block_is_the_same_alone_and_beside_others() {
        fn check<F: Format>() {
            let alone = values().chunks(BLOCK).flat_map(plainly::<F>).collect::<Vec<_>>();
            assert_eq!(alone, plainly::<F>(&values()));
        }
        check::<Q4K>();
        check::<Q5K>();
        check::<Q6K>();
    }
}

//! Random weights, made in place: no file, and on a device no copy. Quantized ones are made as
//! blocks of their type, so nothing is rounded and no error is to be measured.
//!
//! Matrices spread by 1 over the square root of a row's length, so that what goes in comes out as
//! large, and activations stay finite through any number of layers. The same seed gives the same
//! weights on every device (`kernels/random.cu`).

use modelgate_model::Role;
use modelgate_protocol::DType;
use std::ops::Range;

/// What the files of a synthetic model are called.
pub(crate) const MADE: &str = "(synthetic)";

/// The 6-bit and 8-bit scales of sub-blocks, and the bytes that hold eight 6-bit scales and as many
/// minima of that size (`get_scale_min_k4` of ggml).
const SUB_SCALE: u8 = 48;
const PACKED_SUB_SCALES: [u8; 12] =
    [0xf0, 0xf0, 0xf0, 0xf0, 0xf0, 0xf0, 0xf0, 0xf0, 0x00, 0x00, 0x00, 0x00];

/// Blocks of a type: a pattern, of which some bytes are random.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BlockRecipe {
    /// The pattern, in halves of 16 bits.
    halves: Vec<u16>,
    /// The halves that are random.
    random: Range<usize>,
}

impl BlockRecipe {
    /// Blocks of `dtype` (`ggml-common.h` has their layouts) whose values spread by `deviation`
    /// about 0; none for types that synthetic models do not come in.
    pub(crate) fn new(dtype: &DType, deviation: f64) -> Option<BlockRecipe> {
        // the deviation of whole numbers that are evenly spread over 4, 5, 6 and 8 bits
        let scale = |bits: i32, sub_scale: f64| {
            let levels = 2f64.powi(bits);
            let spread = ((levels * levels - 1.0) / 12.0).sqrt();
            half::f16::from_f64(deviation / spread / sub_scale)
        };
        let sub = f64::from(SUB_SCALE);
        let bytes = |scale: half::f16| scale.to_le_bytes();
        let with_minima = |bits: i32| {
            let d = scale(bits, sub);
            let middle = (2f64.powi(bits) - 1.0) / 2.0;
            let minimum = half::f16::from_f64(d.to_f64() * middle);
            [&bytes(d)[..], &bytes(minimum), &PACKED_SUB_SCALES].concat()
        };
        let (before, random, after) = match dtype {
            DType::Q4_0 => (bytes(scale(4, 1.0)).to_vec(), 16, Vec::new()),
            DType::Q8_0 => (bytes(scale(8, 1.0)).to_vec(), 32, Vec::new()),
            DType::Q4K => (with_minima(4), 128, Vec::new()),
            DType::Q5K => (with_minima(5), 160, Vec::new()),
            DType::Q6K => (Vec::new(), 192, [&[SUB_SCALE; 16][..], &bytes(scale(6, sub))].concat()),
            _ => return None,
        };
        let start = before.len() / 2;
        let block = [before, vec![0; random], after].concat();
        let halves = block.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
        Some(BlockRecipe { halves: halves.collect(), random: start..start + random / 2 })
    }

    /// The pattern, in halves of 16 bits.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub(crate) fn halves(&self) -> &[u16] {
        &self.halves
    }

    /// The halves that are random.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub(crate) fn random_halves(&self) -> Range<usize> {
        self.random.clone()
    }

    /// Writes blocks, of which the first is the tensor's block number `first`.
    pub(crate) fn fill(&self, bytes: &mut [u8], first: u64, seed: u64) {
        let size = self.halves.len();
        for (number, block) in (first..).zip(bytes.chunks_exact_mut(2 * size)) {
            let start = number * size as u64;
            for (at, pair) in block.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                *pair = if self.random.contains(&at) {
                    random_half(seed, start + at as u64).to_le_bytes()
                } else {
                    self.halves[at].to_le_bytes()
                };
            }
        }
    }
}

/// Writes values that are spread evenly from `-scale` to `scale`, of which the first is the
/// tensor's value number `first`.
pub(crate) fn fill_values(values: &mut [f32], first: u64, scale: f32, seed: u64) {
    for (number, value) in (first..).zip(values) {
        *value = (f32::from(random_half(seed, number)) - 32767.5) / 32767.5 * scale;
    }
}

/// Writes what a float tensor of that role and row length has.
pub(crate) fn fill_floats(values: &mut [f32], first: u64, role: Role, columns: usize, seed: u64) {
    match role {
        Role::Norm => values.fill(1.0),
        _ => fill_values(values, first, even_scale(deviation(role, columns)), seed),
    }
}

/// The scale of values that are spread evenly and have this standard deviation.
pub(crate) fn even_scale(deviation: f64) -> f32 {
    (deviation * 3f64.sqrt()) as f32
}

/// What the values of a tensor of that role and row length spread by: their standard deviation. A
/// norm's weights are all 1.
pub(crate) fn deviation(role: Role, columns: usize) -> f64 {
    match role {
        Role::Norm => 0.0,
        Role::Embedding => 1.0,
        Role::Bias => 0.1,
        _ => 1.0 / (columns.max(1) as f64).sqrt(),
    }
}

/// The seed of a tensor's weights, from its name (FNV-1a: Fowler, Noll and Vo).
pub(crate) fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finaliser of SplitMix64 over a counter.
fn random_word(seed: u64, counter: u64) -> u64 {
    let z = seed.wrapping_add((counter + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 16 random bits; four of them come of one word.
fn random_half(seed: u64, index: u64) -> u16 {
    (random_word(seed, index / 4) >> (16 * (index % 4))) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::dequantized;

    #[test]
    fn blocks_of_every_type_have_the_deviation_that_was_asked_for() {
        for dtype in [DType::Q4_0, DType::Q8_0, DType::Q4K, DType::Q5K, DType::Q6K] {
            for expected in [1.0, 1.0 / 28672f64.sqrt()] {
                let recipe = BlockRecipe::new(&dtype, expected).expect("a recipe");
                let (elements, size) = dtype.block().expect("blocks");
                assert_eq!(recipe.halves().len() as u64 * 2, size, "{dtype}");
                let mut bytes = vec![0; (100_000 / elements * size) as usize];
                recipe.fill(&mut bytes, 0, 7);
                let values = dequantized(&dtype, &bytes);
                let count = values.len() as f64;
                let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
                let square = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / count;
                let found = (square - mean * mean).sqrt();
                assert!((found / expected - 1.0).abs() < 0.02, "{dtype}: {found}, {expected}");
                assert!(mean.abs() < 0.15 * expected, "{dtype}: mean {mean}");
            }
        }
        assert_eq!(BlockRecipe::new(&DType::Q3K, 1.0), None);
    }

    #[test]
    fn a_tensor_made_in_parts_is_the_same_as_one_made_at_once() {
        let recipe = BlockRecipe::new(&DType::Q6K, 1.0).expect("a recipe");
        let mut whole = vec![0; 210 * 8];
        recipe.fill(&mut whole, 0, 3);
        let mut parts = vec![0; 210 * 8];
        let (front, back) = parts.split_at_mut(210 * 3);
        recipe.fill(front, 0, 3);
        recipe.fill(back, 3, 3);
        assert_eq!(whole, parts);
        recipe.fill(&mut parts, 0, 4);
        assert_ne!(whole, parts);
    }
}

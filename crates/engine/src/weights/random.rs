//! Random weights, generated in place: without a file, and without a copy to a device. Quantized
//! weights are generated as blocks of their type, so that no value is rounded and there is no error
//! to measure.
//!
//! The standard deviation of a matrix is 1 over the square root of the row length, so that outputs
//! are as large as inputs and activations stay finite through any number of layers. The same seed
//! gives the same weights on every device (`kernels/random.cu`).

use modelgate_protocol::{DType, Role};
use std::ops::Range;

/// The scale of every sub-block in blocks with 6-bit or 8-bit sub-block scales.
const SUB_SCALE: u8 = 48;

/// The bytes of eight 6-bit scales and eight 6-bit minima that all equal [`SUB_SCALE`], in the
/// packed form of `get_scale_min_k4` of ggml.
const PACKED_SUB_SCALES: [u8; 12] =
    [0xf0, 0xf0, 0xf0, 0xf0, 0xf0, 0xf0, 0xf0, 0xf0, 0x00, 0x00, 0x00, 0x00];

/// The recipe for random blocks of a type: a pattern, in which some of the 16-bit numbers are
/// random.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BlockRecipe {
    /// The pattern of one block, as little-endian 16-bit numbers.
    pattern: Vec<u16>,
    /// The indices of the numbers in the pattern that are random.
    random: Range<usize>,
}

impl BlockRecipe {
    /// Creates the recipe for blocks of `dtype` whose values have mean 0 and standard deviation
    /// `deviation` (`ggml-common.h` defines the layouts). `None` if synthetic models do not use the
    /// type.
    pub(crate) fn new(dtype: &DType, deviation: f64) -> Option<BlockRecipe> {
        // the divisor is the standard deviation of uniform integers of 4, 5, 6 or 8 bits
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
            DType::Q5_0 => (bytes(scale(5, 1.0)).to_vec(), 20, Vec::new()),
            DType::Q5_1 => {
                let d = scale(5, 1.0);
                // values are d * quant + minimum
                let minimum = half::f16::from_f64(d.to_f64() * -15.5);
                ([bytes(d), bytes(minimum)].concat(), 20, Vec::new())
            }
            DType::Q8_0 => (bytes(scale(8, 1.0)).to_vec(), 32, Vec::new()),
            DType::Q4K => (with_minima(4), 128, Vec::new()),
            DType::Q5K => (with_minima(5), 160, Vec::new()),
            DType::Q6K => (Vec::new(), 192, [&[SUB_SCALE; 16][..], &bytes(scale(6, sub))].concat()),
            _ => return None,
        };
        let start = before.len() / 2;
        let block = [before, vec![0; random], after].concat();
        let pattern = block.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
        Some(BlockRecipe { pattern: pattern.collect(), random: start..start + random / 2 })
    }

    /// Returns the pattern of one block, as little-endian 16-bit numbers.
    pub(crate) fn pattern(&self) -> &[u16] {
        &self.pattern
    }

    /// Returns the indices of the numbers in the pattern that are random.
    pub(crate) fn random(&self) -> Range<usize> {
        self.random.clone()
    }

    /// Fills `bytes` with blocks. `first` is the index in the tensor of the first of them, and
    /// `seed` is the seed of the tensor.
    pub(crate) fn fill(&self, bytes: &mut [u8], first: u64, seed: u64) {
        let size = self.pattern.len();
        for (number, block) in (first..).zip(bytes.chunks_exact_mut(2 * size)) {
            let start = number * size as u64;
            for (at, pair) in block.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                *pair = if self.random.contains(&at) {
                    random_u16(seed, start + at as u64).to_le_bytes()
                } else {
                    self.pattern[at].to_le_bytes()
                };
            }
        }
    }
}

/// Fills `values` with values that are uniform from `-scale` to `scale`. `first` is the index in
/// the tensor of the first of them.
pub(crate) fn fill_with_random_values(values: &mut [f32], first: u64, scale: f32, seed: u64) {
    for (number, value) in (first..).zip(values) {
        *value = (f32::from(random_u16(seed, number)) - 32767.5) / 32767.5 * scale;
    }
}

/// Fills `values` with the values of a float tensor of a role and row length. `first` is the index
/// in the tensor of the first of them.
pub(crate) fn fill_floats(values: &mut [f32], first: u64, role: Role, columns: usize, seed: u64) {
    match role {
        Role::Norm => values.fill(1.0),
        _ => fill_with_random_values(values, first, uniform_scale(deviation(role, columns)), seed),
    }
}

/// Returns the maximum of uniform values with mean 0 and standard deviation `deviation`.
pub(crate) fn uniform_scale(deviation: f64) -> f32 {
    (deviation * 3f64.sqrt()) as f32
}

/// Returns the standard deviation of the values of a tensor of a role and row length. It is 0 for
/// norms, whose weights are all 1.
pub(crate) fn deviation(role: Role, columns: usize) -> f64 {
    match role {
        Role::Norm => 0.0,
        Role::Embedding => 1.0,
        Role::Bias => 0.1,
        _ => 1.0 / (columns.max(1) as f64).sqrt(),
    }
}

/// Returns the seed of a tensor: the 64-bit FNV-1a hash (Fowler, Noll and Vo) of its name.
pub(crate) fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Returns 64 random bits: the finaliser of SplitMix64, applied to a counter.
fn random_word(seed: u64, counter: u64) -> u64 {
    let z = seed.wrapping_add((counter + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns 16 random bits: a quarter of a random 64-bit word.
fn random_u16(seed: u64, index: u64) -> u16 {
    (random_word(seed, index / 4) >> (16 * (index % 4))) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::dequantized;

    #[test]
    fn blocks_of_every_type_have_the_requested_standard_deviation() {
        let types = [
            DType::Q4_0,
            DType::Q5_0,
            DType::Q5_1,
            DType::Q8_0,
            DType::Q4K,
            DType::Q5K,
            DType::Q6K,
        ];
        for dtype in types {
            for expected in [1.0, 1.0 / 28672f64.sqrt()] {
                let recipe = BlockRecipe::new(&dtype, expected).expect("a recipe");
                let (elements, size) = dtype.block().expect("blocks");
                assert_eq!(recipe.pattern().len() as u64 * 2, size, "{dtype}");
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
    fn a_tensor_filled_in_parts_equals_a_tensor_filled_in_one_call() {
        let recipe = BlockRecipe::new(&DType::Q6K, 1.0).expect("a recipe");
        let mut complete = vec![0; 210 * 8];
        recipe.fill(&mut complete, 0, 3);
        let mut parts = vec![0; 210 * 8];
        let (front, back) = parts.split_at_mut(210 * 3);
        recipe.fill(front, 0, 3);
        recipe.fill(back, 3, 3);
        assert_eq!(complete, parts);
        recipe.fill(&mut parts, 0, 4);
        assert_ne!(complete, parts);
    }
}

//! Random values in the encoding of each tensor type. Blocks of quantized types are not quantized
//! from floats; they consist of random integers, and of scales that give the requested standard
//! deviation.
//!
//! The layouts of blocks are those in `ggml-common.h` of llama.cpp.

use crate::random::Random;
use candle_core::quantized::GgmlDType;
use half::{bf16, f16};

/// A generator of values of one type, with mean 0 and a fixed standard deviation.
pub(super) struct RandomValues {
    dtype: GgmlDType,
    form: Form,
}

enum Form {
    /// Uniformly distributed floats: the value of one step of a random 16-bit integer.
    Uniform(f32),
    /// Quantized blocks: variants of the bytes that are not random. Each block gets a random
    /// variant.
    Blocks(Vec<Scales>),
}

/// The bytes of a block that contain its scales: byte sequences with their offsets in the block.
type Scales = Vec<(usize, Vec<u8>)>;

/// The number of variants of the scales, for types with many scales in a block. Divides 256.
const VARIANTS: usize = 16;

impl RandomValues {
    /// Creates a generator of values with the standard deviation `deviation`, at most 1.
    pub(super) fn new(dtype: GgmlDType, deviation: f64) -> RandomValues {
        let form = match dtype {
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => {
                Form::Uniform((deviation / variance(16).sqrt()) as f32)
            }
            _ => Form::Blocks(scales(dtype, deviation)),
        };
        RandomValues { dtype, form }
    }

    /// Returns the size in bytes of a block, or of a single float.
    pub(super) fn block_bytes(&self) -> usize {
        self.dtype.type_size()
    }

    /// Fills `out`, which must consist of complete blocks.
    pub(super) fn fill(&self, random: &mut Random, out: &mut [u8]) {
        match &self.form {
            Form::Uniform(step) => {
                for four in out.chunks_mut(4 * self.block_bytes()) {
                    let bits = random.bits();
                    let values = [0, 16, 32, 48]
                        .map(|shift| (f32::from((bits >> shift) as i16) + 0.5) * step);
                    encode(self.dtype, &values, four);
                }
            }
            Form::Blocks(variants) => {
                for word in out.chunks_mut(8) {
                    word.copy_from_slice(&random.bits().to_le_bytes()[..word.len()]);
                }
                for block in out.chunks_exact_mut(self.block_bytes()) {
                    // This random byte selects the variant; the scales overwrite it.
                    let chosen = usize::from(block[variants[0][0].0]) % variants.len();
                    for (at, bytes) in &variants[chosen] {
                        block[*at..*at + bytes.len()].copy_from_slice(bytes);
                    }
                }
            }
        }
    }
}

/// Returns `values` encoded in a float type.
pub(super) fn floats(dtype: GgmlDType, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * dtype.type_size()];
    encode(dtype, values, &mut bytes);
    bytes
}

/// Encodes `values` in a float type, as many as `out` can contain.
fn encode(dtype: GgmlDType, values: &[f32], out: &mut [u8]) {
    let slots = out.chunks_exact_mut(dtype.type_size()).zip(values);
    match dtype {
        GgmlDType::F32 => slots.for_each(|(slot, v)| slot.copy_from_slice(&v.to_le_bytes())),
        GgmlDType::F16 => {
            slots.for_each(|(slot, v)| slot.copy_from_slice(&f16::from_f32(*v).to_le_bytes()));
        }
        GgmlDType::BF16 => {
            slots.for_each(|(slot, v)| slot.copy_from_slice(&bf16::from_f32(*v).to_le_bytes()));
        }
        other => panic!("{other:?} is not a float type"),
    }
}

/// Returns the variance of uniformly distributed integers of `bits` bits.
fn variance(bits: i32) -> f64 {
    (4f64.powi(bits) - 1.0) / 12.0
}

/// Returns the mean square of uniformly distributed signed integers of `bits` bits, whose mean is
/// -1/2.
fn signed_mean_square(bits: i32) -> f64 {
    variance(bits) + 0.25
}

/// Returns the variants of a type's scales.
fn scales(dtype: GgmlDType, deviation: f64) -> Vec<Scales> {
    match dtype {
        GgmlDType::Q4_0 => signed_scale(0, deviation / signed_mean_square(4).sqrt()),
        GgmlDType::Q5_0 => signed_scale(0, deviation / signed_mean_square(5).sqrt()),
        GgmlDType::Q8_0 => signed_scale(0, deviation / signed_mean_square(8).sqrt()),
        GgmlDType::Q4_1 => vec![vec![(0, scale_and_minimum(deviation, 4, -1.0))]],
        GgmlDType::Q5_1 => vec![vec![(0, scale_and_minimum(deviation, 5, -1.0))]],
        // The scales of the sub-blocks are signed integers of 6 and of 8 bits, and random too.
        GgmlDType::Q3K => {
            signed_scale(108, deviation / (signed_mean_square(6) * signed_mean_square(3)).sqrt())
        }
        GgmlDType::Q6K => {
            signed_scale(208, deviation / (signed_mean_square(8) * signed_mean_square(6)).sqrt())
        }
        // The halves of each byte are the scale and the minimum of a sub-block.
        GgmlDType::Q2K => sub_block_scales::<16>(deviation, 2, 4, |scales, block_scale| {
            vec![(0, scales.map(|scale| scale | scale << 4).to_vec()), (80, block_scale)]
        }),
        GgmlDType::Q4K => sub_block_scales::<8>(deviation, 4, 6, |scales, block_scale| {
            vec![(0, block_scale), (4, packed(scales).to_vec())]
        }),
        GgmlDType::Q5K => sub_block_scales::<8>(deviation, 5, 6, |scales, block_scale| {
            vec![(0, block_scale), (4, packed(scales).to_vec())]
        }),
        other => panic!("random values of type {other:?} are not supported"),
    }
}

/// Returns the scale and the negative scale at the offset `at`. Both signs together give mean 0,
/// because the mean of the scaled integers is not 0.
fn signed_scale(at: usize, scale: f64) -> Vec<Scales> {
    [scale, -scale].map(|scale| vec![(at, f16::from_f64(scale).to_le_bytes().to_vec())]).to_vec()
}

/// Returns the scale of unsigned integers of `bits` bits and the minimum that shifts their mean to
/// 0, both in f16. The format adds the minimum (`sign` is -1) or subtracts it (`sign` is 1).
fn scale_and_minimum(deviation: f64, bits: i32, sign: f64) -> Vec<u8> {
    let scale = deviation / variance(bits).sqrt();
    let middle = (2f64.powi(bits) - 1.0) / 2.0;
    [scale, sign * scale * middle].map(|value| f16::from_f64(value).to_le_bytes()).concat()
}

/// Returns variants of the scales of blocks of `COUNT` sub-blocks. Each sub-block has a scale and a
/// minimum of `scale_bits` bits, in units of those of the block. Both are the same number, so that
/// each sub-block has mean 0. `place` arranges the bytes in the block.
fn sub_block_scales<const COUNT: usize>(
    deviation: f64,
    bits: i32,
    scale_bits: u32,
    place: impl Fn([u8; COUNT], Vec<u8>) -> Scales,
) -> Vec<Scales> {
    let mut random = Random::new(1);
    let half = 1u64 << (scale_bits - 1);
    let variants: [[u8; COUNT]; VARIANTS] =
        std::array::from_fn(|_| std::array::from_fn(|_| (half + random.bits() % half) as u8));
    let squares = variants.iter().flatten().map(|scale| f64::from(*scale).powi(2));
    let mean_square = squares.sum::<f64>() / (VARIANTS * COUNT) as f64;
    let block_scale = scale_and_minimum(deviation / mean_square.sqrt(), bits, 1.0);
    variants.into_iter().map(|scales| place(scales, block_scale.clone())).collect()
}

/// Packs eight 6-bit scales into the 12 bytes that `get_scale_min_k4` of ggml reads. Each value is
/// both the scale and the minimum of its sub-block.
fn packed(scales: [u8; 8]) -> [u8; 12] {
    let mut out = [0; 12];
    for part in 0..4 {
        let (first, second) = (scales[part], scales[part + 4]);
        let high = second >> 4 << 6;
        out[part] = first | high;
        out[part + 4] = first | high;
        out[part + 8] = second & 15 | second << 4;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use candle_core::quantized::{QStorage, QTensor};
    use std::borrow::Cow;

    #[test]
    fn values_of_every_type_have_mean_0_and_the_requested_deviation() {
        for dtype in [
            GgmlDType::F32,
            GgmlDType::F16,
            GgmlDType::BF16,
            GgmlDType::Q4_0,
            GgmlDType::Q4_1,
            GgmlDType::Q5_0,
            GgmlDType::Q5_1,
            GgmlDType::Q8_0,
            GgmlDType::Q2K,
            GgmlDType::Q3K,
            GgmlDType::Q4K,
            GgmlDType::Q5K,
            GgmlDType::Q6K,
        ] {
            // The row length of the feed-forward network of Llama 70B gives the smallest scales.
            for deviation in [1.0, 1.0 / 28_672f64.sqrt()] {
                let count = 1 << 18;
                let mut bytes = vec![0; count / dtype.block_size() * dtype.type_size()];
                RandomValues::new(dtype, deviation).fill(&mut Random::new(7), &mut bytes);
                let storage = QStorage::from_data(Cow::Owned(bytes), &Device::Cpu, dtype).unwrap();
                let tensor = QTensor::new(storage, count).unwrap();
                let values: Vec<f32> = tensor.dequantize(&Device::Cpu).unwrap().to_vec1().unwrap();
                assert!(values.iter().all(|value| value.is_finite()), "{dtype:?}");
                let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count as f64;
                let square = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
                let found = (square / count as f64).sqrt() / deviation;
                assert!((found - 1.0).abs() < 0.02, "{dtype:?}: {found} of {deviation}");
                assert!((mean / deviation).abs() < 0.01, "{dtype:?}: mean {mean}");
                let distinct = values.iter().filter(|value| **value != values[0]).count();
                assert!(distinct > count / 2, "{dtype:?}");
            }
        }
    }
}

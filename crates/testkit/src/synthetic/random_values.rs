//! Random values of every type, written as the type's own bytes: blocks are not quantized from
//! floats but made of random integers under scales that give the wanted deviation.
//!
//! Layouts of blocks: `ggml-common.h` of llama.cpp.

use crate::random::Random;
use candle_core::quantized::GgmlDType;
use half::{bf16, f16};

/// Makes values of one type with mean 0 and one standard deviation.
pub(super) struct RandomValues {
    dtype: GgmlDType,
    form: Form,
}

enum Form {
    /// Floats, uniform: what a step of a random whole number of 16 bits is worth.
    Uniform(f32),
    /// Blocks: what is not random in them, in variants that are chosen from at random.
    Blocks(Vec<Scales>),
}

/// Bytes of a block that hold its scales, each piece with its place.
type Scales = Vec<(usize, Vec<u8>)>;

/// Variants of the scales of types that have many in a block. Divides 256.
const VARIANTS: usize = 16;

impl RandomValues {
    /// Creates values of that standard deviation, at most 1.
    pub(super) fn new(dtype: GgmlDType, deviation: f64) -> RandomValues {
        let form = match dtype {
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => {
                Form::Uniform((deviation / variance(16).sqrt()) as f32)
            }
            _ => Form::Blocks(scales(dtype, deviation)),
        };
        RandomValues { dtype, form }
    }

    /// Returns the bytes of a block, or of a single float.
    pub(super) fn unit(&self) -> usize {
        self.dtype.type_size()
    }

    /// Fills whole blocks.
    pub(super) fn fill(&self, random: &mut Random, out: &mut [u8]) {
        match &self.form {
            Form::Uniform(step) => {
                for four in out.chunks_mut(4 * self.unit()) {
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
                for block in out.chunks_exact_mut(self.unit()) {
                    // A byte that is random and will not stay.
                    let chosen = usize::from(block[variants[0][0].0]) % variants.len();
                    for (at, bytes) in &variants[chosen] {
                        block[*at..*at + bytes.len()].copy_from_slice(bytes);
                    }
                }
            }
        }
    }
}

/// Returns the bytes of `values` in a float type.
pub(super) fn floats(dtype: GgmlDType, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * dtype.type_size()];
    encode(dtype, values, &mut bytes);
    bytes
}

/// Writes as many of `values` as there is room for.
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
        other => panic!("no float type: {other:?}"),
    }
}

/// Returns the variance of integers of so many bits, all equally likely.
fn variance(bits: i32) -> f64 {
    (4f64.powi(bits) - 1.0) / 12.0
}

/// Returns the mean square of the same numbers with a sign, whose mean is -1/2.
fn square(bits: i32) -> f64 {
    variance(bits) + 0.25
}

/// Returns the variants of a type's scales.
fn scales(dtype: GgmlDType, deviation: f64) -> Vec<Scales> {
    match dtype {
        GgmlDType::Q4_0 => signed(0, deviation / square(4).sqrt()),
        GgmlDType::Q5_0 => signed(0, deviation / square(5).sqrt()),
        GgmlDType::Q8_0 => signed(0, deviation / square(8).sqrt()),
        GgmlDType::Q4_1 => vec![vec![(0, scale_and_minimum(deviation, 4, -1.0))]],
        GgmlDType::Q5_1 => vec![vec![(0, scale_and_minimum(deviation, 5, -1.0))]],
        // The scales of the parts are whole numbers with a sign, of 6 and of 8 bits: random too.
        GgmlDType::Q3K => signed(108, deviation / (square(6) * square(3)).sqrt()),
        GgmlDType::Q6K => signed(208, deviation / (square(8) * square(6)).sqrt()),
        // Both halves of a byte: the scale of a part and its minimum.
        GgmlDType::Q2K => of_parts::<16>(deviation, 2, 4, |parts, whole| {
            vec![(0, parts.map(|part| part | part << 4).to_vec()), (80, whole)]
        }),
        GgmlDType::Q4K => of_parts::<8>(deviation, 4, 6, |parts, whole| {
            vec![(0, whole), (4, packed(parts).to_vec())]
        }),
        GgmlDType::Q5K => of_parts::<8>(deviation, 5, 6, |parts, whole| {
            vec![(0, whole), (4, packed(parts).to_vec())]
        }),
        other => panic!("no random values of type {other:?}"),
    }
}

/// Returns one scale with either sign: the mean of the numbers that it scales is not 0.
fn signed(at: usize, scale: f64) -> Vec<Scales> {
    [scale, -scale].map(|scale| vec![(at, f16::from_f64(scale).to_le_bytes().to_vec())]).to_vec()
}

/// Returns the scale of numbers of so many bits without a sign, and the minimum that moves their
/// mean to 0, which is added (`sign` -1) or subtracted (1).
fn scale_and_minimum(deviation: f64, bits: i32, sign: f64) -> Vec<u8> {
    let scale = deviation / variance(bits).sqrt();
    let middle = (2f64.powi(bits) - 1.0) / 2.0;
    [scale, sign * scale * middle].map(|value| f16::from_f64(value).to_le_bytes()).concat()
}

/// Returns the scales of blocks of `PARTS` parts, each with a scale and a minimum of `scale_bits`
/// bits in units of the block's. With the same number for both, each part has mean 0.
fn of_parts<const PARTS: usize>(
    deviation: f64,
    bits: i32,
    scale_bits: u32,
    place: impl Fn([u8; PARTS], Vec<u8>) -> Scales,
) -> Vec<Scales> {
    let mut random = Random::new(1);
    let half = 1u64 << (scale_bits - 1);
    let variants: [[u8; PARTS]; VARIANTS] =
        std::array::from_fn(|_| std::array::from_fn(|_| (half + random.bits() % half) as u8));
    let squares = variants.iter().flatten().map(|part| f64::from(*part).powi(2));
    let mean_square = squares.sum::<f64>() / (VARIANTS * PARTS) as f64;
    let whole = scale_and_minimum(deviation / mean_square.sqrt(), bits, 1.0);
    variants.into_iter().map(|parts| place(parts, whole.clone())).collect()
}

/// Packs eight numbers of 6 bits, each once as a scale and once as a minimum, to the 12 bytes that
/// `get_scale_min_k4` of ggml reads.
fn packed(parts: [u8; 8]) -> [u8; 12] {
    let mut out = [0; 12];
    for part in 0..4 {
        let (first, second) = (parts[part], parts[part + 4]);
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
    fn every_type_has_mean_0_and_the_deviation_asked_for() {
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
            // The width of 70B's feed-forward network gives the smallest scales.
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

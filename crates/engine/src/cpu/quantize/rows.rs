//! Quantizes rows of values, and measures the quantization error.

use super::SquaredError;
use super::k_quants::{self, Q4K, Q5K, Q6K};
use crate::blocks::{Block, allocate_zeroed, bytes_mut, from_ggml, with_block};
use modelgate_protocol::DType;
use rayon::prelude::*;

/// The number of values that are read back together to measure the error: few enough for the L1
/// cache.
const READ_BACK_VALUES: usize = 1024;

/// Quantizes finite `values` to `blocks`, and returns the error that this causes.
///
/// # Errors
/// The index of the first value that is not finite after it was read back, because it exceeds the
/// range of the f16 scale of its block.
pub(crate) fn quantize<T: Block>(values: &[f32], blocks: &mut [T]) -> Result<SquaredError, usize> {
    write(values, blocks);
    let mut sum = SquaredError::default();
    let mut read_back = [0f32; READ_BACK_VALUES];
    let parts = values.chunks(READ_BACK_VALUES).zip(blocks.chunks(READ_BACK_VALUES / T::BLCK_SIZE));
    for (part, (values, blocks)) in parts.enumerate() {
        let read_back = &mut read_back[..values.len()];
        T::to_float(blocks, read_back);
        if let Some(at) = read_back.iter().position(|value| !value.is_finite()) {
            return Err(part * READ_BACK_VALUES + at);
        }
        for (value, back) in values.iter().zip(read_back) {
            let (value, back) = (f64::from(*value), f64::from(*back));
            sum.difference += (value - back) * (value - back);
            sum.source += value * value;
        }
    }
    Ok(sum)
}

fn write<T: Block>(values: &[f32], blocks: &mut [T]) {
    match from_ggml(T::DTYPE) {
        DType::Q4K => k_quants::write::<Q4K>(values, bytes_mut(blocks)),
        DType::Q5K => k_quants::write::<Q5K>(values, bytes_mut(blocks)),
        DType::Q6K => k_quants::write::<Q6K>(values, bytes_mut(blocks)),
        _ => T::from_float(values, blocks),
    }
}

/// Quantized rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantized {
    /// The bytes of the blocks, in the layout of ggml.
    pub bytes: Vec<u8>,
    /// The normalized mean squared error: the sum of the squared differences, divided by the sum of
    /// the squared values. It is 0 if all values are zero.
    pub nmse: f64,
}

/// Quantizes `values` to `dtype` with the quantizers that loading uses, in chunks on all threads of
/// the current pool. `None` if the type is not quantized, if the number of values is not a multiple
/// of its block size, if the memory cannot be allocated, or if a value exceeds the range of a
/// block's scale.
pub fn quantize_rows(values: &[f32], dtype: &DType) -> Option<Quantized> {
    with_block!(dtype, B => quantize_in_chunks::<B>(values), else None)
}

fn quantize_in_chunks<T: Block>(values: &[f32]) -> Option<Quantized> {
    if !values.len().is_multiple_of(T::BLCK_SIZE) {
        return None;
    }
    let mut blocks = allocate_zeroed::<T>(values.len() / T::BLCK_SIZE)?;
    let errors: Vec<SquaredError> = blocks
        .par_chunks_mut(READ_BACK_VALUES / T::BLCK_SIZE)
        .zip(values.par_chunks(READ_BACK_VALUES))
        .map(|(blocks, values)| quantize(values, blocks).ok())
        .collect::<Option<_>>()?;
    let sum = errors.into_iter().fold(SquaredError::default(), |a, b| a + b);
    Some(Quantized { bytes: bytes_mut(&mut blocks).to_vec(), nmse: sum.normalized() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::quantized::k_quants::{BlockQ4_0, BlockQ4K};

    #[test]
    fn a_value_beyond_the_range_of_the_scale_is_reported() {
        let mut values = vec![1.0f32; 64];
        values[40] = 1e9;
        let mut blocks = allocate_zeroed::<BlockQ4_0>(2).expect("memory");
        assert_eq!(quantize(&values, &mut blocks), Err(32));
    }

    #[test]
    fn zeros_have_an_error_of_zero() {
        let mut blocks = allocate_zeroed::<BlockQ4K>(1).expect("memory");
        let error = quantize(&[0.0; 256], &mut blocks).expect("finite");
        assert_eq!(error.normalized(), 0.0);
    }
}

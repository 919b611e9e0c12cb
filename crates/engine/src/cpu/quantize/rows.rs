//! Quantizes rows of values, and measures the error.

use super::SquaredError;
use super::k_quants::{self, Q4K, Q5K, Q6K};
use crate::blocks::{Block, bytes_mut, from_ggml, with_block, zeroed};
use modelgate_protocol::DType;
use rayon::prelude::*;

/// Values that are read back at once to measure the error: small enough for the first cache.
const READ_BACK: usize = 1024;

/// Writes finite `values` as blocks and reads them back.
///
/// # Errors
/// The index of the first value that does not come back as a finite number: the block's f16 scale
/// cannot hold it.
pub(crate) fn quantize<T: Block>(values: &[f32], blocks: &mut [T]) -> Result<SquaredError, usize> {
    write(values, blocks);
    let mut sum = SquaredError::default();
    let mut back = [0f32; READ_BACK];
    let parts = values.chunks(READ_BACK).zip(blocks.chunks(READ_BACK / T::BLCK_SIZE));
    for (part, (values, blocks)) in parts.enumerate() {
        let back = &mut back[..values.len()];
        T::to_float(blocks, back);
        if let Some(at) = back.iter().position(|value| !value.is_finite()) {
            return Err(part * READ_BACK + at);
        }
        for (value, back) in values.iter().zip(back) {
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

/// Rows that were quantized.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantized {
    /// The blocks as they lie in memory and in files.
    pub bytes: Vec<u8>,
    /// Normalised mean squared error; 0 if all values are zero.
    pub nmse: f64,
}

/// Quantizes `values` to `dtype` as loading does: in chunks, on all threads of the current pool.
/// Returns `None` for a type that is not quantized, if its block size does not divide the values, or
/// if a block's scale cannot hold them.
pub fn quantize_rows(values: &[f32], dtype: &DType) -> Option<Quantized> {
    with_block!(dtype, B => in_chunks::<B>(values), else None)
}

fn in_chunks<T: Block>(values: &[f32]) -> Option<Quantized> {
    if !values.len().is_multiple_of(T::BLCK_SIZE) {
        return None;
    }
    let mut blocks = zeroed::<T>(values.len() / T::BLCK_SIZE)?;
    let errors: Vec<SquaredError> = blocks
        .par_chunks_mut(READ_BACK / T::BLCK_SIZE)
        .zip(values.par_chunks(READ_BACK))
        .map(|(blocks, values)| quantize(values, blocks).ok())
        .collect::<Option<_>>()?;
    let sum = errors.into_iter().fold(SquaredError::default(), |a, b| a + b);
    Some(Quantized { bytes: bytes_mut(&mut blocks).to_vec(), nmse: sum.normalised() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::quantized::k_quants::{BlockQ4_0, BlockQ4K};

    #[test]
    fn a_value_that_the_scale_cannot_hold_is_found() {
        let mut values = vec![1.0f32; 64];
        values[40] = 1e9;
        let mut blocks = zeroed::<BlockQ4_0>(2).expect("memory");
        assert_eq!(quantize(&values, &mut blocks), Err(32));
    }

    #[test]
    fn zeros_have_no_relative_error() {
        let mut blocks = zeroed::<BlockQ4K>(1).expect("memory");
        let error = quantize(&[0.0; 256], &mut blocks).expect("finite");
        assert_eq!(error.normalised(), 0.0);
    }
}

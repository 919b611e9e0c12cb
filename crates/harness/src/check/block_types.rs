//! Properties of block types on which the `quantization` check relies.

use modelgate_protocol::{DType, Scheme};

/// The smallest block of any type, in weights: a row that is not a multiple of it cannot be
/// quantized.
pub(super) const MIN_BLOCK: u64 = 32;

/// The block types for rows that are multiples of [`MIN_BLOCK`], but not of the block size of the
/// requested type. Source: `tensor_type_fallback` in `llama-quant.cpp` of llama.cpp.
const FALLBACKS: [(DType, DType); 5] = [
    (DType::Q2K, DType::Q4_0),
    (DType::Q3K, DType::Q4_0),
    (DType::Q4K, DType::Q5_0),
    (DType::Q5K, DType::Q5_1),
    (DType::Q6K, DType::Q8_0),
];

/// Returns the type of a matrix with rows of `row` weights for which `dtype` is requested: `dtype`,
/// or its fallback. `None` if the matrix cannot be quantized.
pub(super) fn for_rows(dtype: &DType, row: u64) -> Option<DType> {
    if row == 0 || !row.is_multiple_of(MIN_BLOCK) {
        return None;
    }
    let (block, _) = dtype.block()?;
    if row.is_multiple_of(block) {
        return Some(dtype.clone());
    }
    FALLBACKS.iter().find(|(base, _)| base == dtype).map(|(_, fallback)| fallback.clone())
}

/// Returns the bits per weight of a type. `None` if its layout is unknown.
pub(super) fn bits(dtype: &DType) -> Option<f64> {
    let (elements, bytes) = dtype.block()?;
    Some(bytes as f64 * 8.0 / elements as f64)
}

/// Returns the maximum normalized mean squared error of a type against its source.
///
/// It is two to three times the error on Gaussian rows, which trained weights resemble; rows with
/// heavy tails come closer to the bound. Errors on Gaussian rows: q4_0 7.4e-3, q4_k 5.1e-3, q5_0
/// 1.8e-3, q5_1 1.5e-3, q5_k 1.3e-3, q6_k 3.2e-4, q8_0 2.9e-5 (measured by the tests of the engine).
pub(super) fn max_error(dtype: &DType) -> Option<f64> {
    Some(match dtype {
        DType::Q4_0 => 2.5e-2,
        DType::Q4K => 1.5e-2,
        DType::Q5_0 => 6e-3,
        DType::Q5_1 => 6e-3,
        DType::Q5K => 4e-3,
        DType::Q6K => 1.2e-3,
        DType::Q8_0 => 1.5e-4,
        // rounding to a mantissa of 10 or 7 bits; a wider float loses nothing
        DType::F16 => 1e-6,
        DType::Bf16 => 1e-5,
        DType::F32 => 1e-12,
        _ => return None,
    })
}

/// Returns the maximum bits per weight of matrices that were quantized to `scheme` while loading:
/// those of the fallback type. `None` if the scheme is not available while loading.
pub(super) fn max_bits(scheme: Scheme) -> Option<f64> {
    Some(match scheme {
        Scheme::Q4_0 => 4.5,
        Scheme::Q4K => 5.5,
        Scheme::Q5K => 6.0,
        Scheme::Q6K | Scheme::Q8_0 => 8.5,
        _ => return None,
    })
}

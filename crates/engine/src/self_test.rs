//! The self-test of a device: compares its matrix products with those of the CPU before any
//! measurement.
//!
//! candle launches its quantized kernels without a check for errors. A kernel that was built for
//! another type of device computes wrong values and reports no error.

use crate::blocks::dequantized;
use crate::cpu::quantize::quantize_rows;
use crate::cuda::Gpu;
use crate::decoder::expert_product;
use crate::failures;
use crate::numeric::relative_error;
use crate::weights::random::fill_with_random_values;
use crate::weights::{allocate_blocks, has_fused_kernel};
use candle_core::{Result, Tensor, bail};
use modelgate_protocol::{DType, Failure, FailureKind, Stage};

/// The number of rows of the test matrix: not a power of two, and more than one tile of the
/// kernels.
const ROWS: usize = 192;
/// The number of columns of the test matrix: not a power of two, and more than one tile of the
/// kernels.
const COLUMNS: usize = 768;
/// The numbers of tokens to test. One token uses the kernels for vectors, and many tokens use the
/// kernels for matrices.
const TOKEN_COUNTS: [usize; 2] = [1, 40];
/// The maximum relative error. The kernels round activations to 8 bits in blocks of 32, which
/// causes errors of 4e-3 to 8e-3.
const MAX_RELATIVE_ERROR: f64 = 2.5e-2;

/// Compares the device with the CPU for each quantized type of `dtypes`: products with a matrix,
/// lookups of its rows and, if the type has kernels for mixtures of experts, products with experts.
///
/// # Errors
/// `device_wrong` with the type and the difference, or the failure of an operation.
pub(crate) fn self_test(gpu: &Gpu, dtypes: &[DType]) -> std::result::Result<(), Failure> {
    for dtype in dtypes.iter().filter(|dtype| dtype.is_quantized()) {
        // a failed operation is not a wrong result, and keeps the kind of its failure
        let differences = differences(gpu, dtype).map_err(failures::internal(Stage::Start))?;
        // a comparison with NaN is false
        let wrong =
            differences.iter().find(|(_, error)| error.is_nan() || *error > MAX_RELATIVE_ERROR);
        if let Some((operation, error)) = wrong {
            return Err(failures::start(
                FailureKind::DeviceFault,
                format!(
                    "{}: {operation} with {dtype} weights: expected a relative difference from \
                     the CPU of at most {MAX_RELATIVE_ERROR:.1e}, found {error:.1e}",
                    gpu.name()
                ),
                "rebuild the worker on this host, since it may have been built for another GPU; or \
                 check the system log for Xid errors, since the GPU may be damaged",
            ));
        }
    }
    Ok(())
}

/// Returns the name and the relative difference from the CPU of each operation.
fn differences(gpu: &Gpu, dtype: &DType) -> Result<Vec<(&'static str, f64)>> {
    let values = test_values(ROWS * COLUMNS, 1);
    let Some(quantized) = quantize_rows(&values, dtype) else {
        bail!("self-test: the test matrix cannot be quantized to {dtype}")
    };
    let weights = dequantized(dtype, &quantized.bytes);
    let (matrix, region) = allocate_blocks(gpu, dtype, &[ROWS, COLUMNS])?;
    gpu.upload(region, &quantized.bytes)?;
    let mut differences = Vec::new();
    for tokens in TOKEN_COUNTS {
        let input = test_values(tokens * COLUMNS, 2);
        let x = Tensor::from_slice(&input, (tokens, COLUMNS), gpu.device())?;
        let found = x.apply_op1_no_bwd(matrix.as_ref())?.to_vec2::<f32>()?.concat();
        let expected = product(&input, &weights, ROWS);
        differences.push(("matrix product", relative_error(&found, &expected)));
    }
    let row_ids = [0u32, 7, ROWS as u32 - 1];
    let ids = Tensor::new(&row_ids, gpu.device())?;
    let found = matrix.embedding(&ids)?.to_vec2::<f32>()?.concat();
    let rows = row_ids.iter().flat_map(|row| {
        let start = *row as usize * COLUMNS;
        weights[start..start + COLUMNS].iter().map(|value| f64::from(*value))
    });
    differences.push(("row lookup", relative_error(&found, &rows.collect::<Vec<_>>())));
    if has_fused_kernel(dtype, COLUMNS) {
        differences.extend(expert_differences(gpu, dtype, &quantized.bytes, &weights)?);
    }
    Ok(differences)
}

/// Returns the differences for two experts, each of which consists of one half of the rows of the
/// matrix. The products are those of all tokens with the second expert, and those of each token
/// with one selected expert, computed by the fused kernel.
fn expert_differences(
    gpu: &Gpu,
    dtype: &DType,
    bytes: &[u8],
    weights: &[f32],
) -> Result<Vec<(&'static str, f64)>> {
    let rows = ROWS / 2;
    let (experts, region) = allocate_blocks(gpu, dtype, &[2, rows, COLUMNS])?;
    gpu.upload(region, bytes)?;
    let mut differences = Vec::new();
    for tokens in TOKEN_COUNTS {
        let input = test_values(tokens * COLUMNS, 3);
        let x = Tensor::from_slice(&input, (tokens, COLUMNS), gpu.device())?;
        let second = region.part(region.bytes / 2, region.bytes / 2).unwrap_or(region);
        let found = gpu.product(second, dtype, (rows, COLUMNS), &x)?.to_vec2::<f32>()?;
        let expected = product(&input, &weights[rows * COLUMNS..], rows);
        differences.push(("product with one expert", relative_error(&found.concat(), &expected)));
        let chosen: Vec<u32> = (0..tokens as u32).map(|token| (token + 1) % 2).collect();
        let ids = Tensor::from_slice(&chosen, (tokens, 1), gpu.device())?;
        let found = expert_product(&x, &experts, None, &ids)?.to_vec2::<f32>()?.concat();
        let expected: Vec<f64> = input
            .chunks(COLUMNS)
            .zip(&chosen)
            .flat_map(|(x, expert)| {
                let start = *expert as usize * rows * COLUMNS;
                product(x, &weights[start..start + rows * COLUMNS], rows)
            })
            .collect();
        differences.push(("product with selected experts", relative_error(&found, &expected)));
    }
    Ok(differences)
}

/// Returns deterministic values between -1 and 1.
fn test_values(count: usize, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; count];
    fill_with_random_values(&mut values, 0, 1.0, seed);
    values
}

/// Returns the products of each row of `x` (n, `COLUMNS`) with each of the first `rows` rows of
/// `weights`, computed in f64: (n, rows).
fn product(x: &[f32], weights: &[f32], rows: usize) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    x.chunks(COLUMNS)
        .flat_map(|x| weights.chunks(COLUMNS).take(rows).map(move |row| dot(x, row)))
        .collect()
}

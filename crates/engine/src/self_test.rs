//! The self-test of a device: compares its products with those of the CPU, before any measurement.
//!
//! candle launches its quantized kernels without checking for errors, and a kernel for another kind of
//! device computes garbage without an error.

use crate::blocks::dequantized;
use crate::cpu::quantize::quantize_rows;
use crate::cuda::Gpu;
use crate::decoder::expert_product;
use crate::failures;
use crate::numeric::relative_error;
use crate::weights::random::fill_values;
use crate::weights::{allocate_blocks, has_fused_kernel};
use candle_core::{Result, Tensor, bail};
use modelgate_protocol::{DType, Failure, FailureKind, Stage};

/// Rows and columns of the matrix that is multiplied: no power of two, more than one tile.
const ROWS: usize = 192;
const COLUMNS: usize = 768;
/// Numbers of tokens: one uses the kernels for vectors, many those for matrices.
const TOKENS: [usize; 2] = [1, 40];
/// The largest relative error. The kernels round activations to 8 bits in blocks of 32, which gives
/// 4e-3 to 8e-3.
const TOLERANCE: f64 = 2.5e-2;

/// Multiplies by a matrix of each of these types, looks up its rows and, if the type has kernels for
/// mixtures of experts, runs those, each compared with the CPU.
///
/// # Errors
/// `device_wrong`, with the type and the difference.
pub(crate) fn self_test(gpu: &Gpu, dtypes: &[DType]) -> std::result::Result<(), Failure> {
    for dtype in dtypes.iter().filter(|dtype| dtype.is_quantized()) {
        // what could not be computed is not a wrong result
        let differences = differences(gpu, dtype).map_err(failures::internal(Stage::Start))?;
        // NaN is not a small difference
        let wrong = differences.iter().find(|(_, error)| error.is_nan() || *error > TOLERANCE);
        if let Some((what, error)) = wrong {
            return Err(failures::start(
                FailureKind::DeviceWrong,
                format!(
                    "{}: {what} with {dtype} weights differs from the CPU (relative difference \
                     {error:.1e})",
                    gpu.name()
                ),
                "build the worker again on this host, and check the log of the system for Xid \
                 errors: the worker may have been built for another GPU, or the GPU is damaged",
            ));
        }
    }
    Ok(())
}

/// Returns the relative difference of each operation.
fn differences(gpu: &Gpu, dtype: &DType) -> Result<Vec<(&'static str, f64)>> {
    let values = spread(ROWS * COLUMNS, 1);
    let Some(quantized) = quantize_rows(&values, dtype) else {
        bail!("no values in {dtype} to multiply with")
    };
    let weights = dequantized(dtype, &quantized.bytes);
    let (matrix, region) = allocate_blocks(gpu, dtype, &[ROWS, COLUMNS])?;
    gpu.upload(region, &quantized.bytes)?;
    let mut differences = Vec::new();
    for tokens in TOKENS {
        let input = spread(tokens * COLUMNS, 2);
        let x = Tensor::from_slice(&input, (tokens, COLUMNS), gpu.device())?;
        let found = x.apply_op1_no_bwd(matrix.as_ref())?.to_vec2::<f32>()?.concat();
        let expected = product(&input, &weights, ROWS);
        differences.push(("a product", relative_error(&found, &expected)));
    }
    let numbers = [0u32, 7, ROWS as u32 - 1];
    let ids = Tensor::new(&numbers, gpu.device())?;
    let found = matrix.embedding(&ids)?.to_vec2::<f32>()?.concat();
    let rows = numbers.iter().flat_map(|row| {
        let start = *row as usize * COLUMNS;
        weights[start..start + COLUMNS].iter().map(|value| f64::from(*value))
    });
    differences.push(("a lookup", relative_error(&found, &rows.collect::<Vec<_>>())));
    if has_fused_kernel(dtype, COLUMNS) {
        differences.extend(expert_differences(gpu, dtype, &quantized.bytes, &weights)?);
    }
    Ok(differences)
}

/// Returns the differences with the matrix as two experts of half its rows: each token through one of
/// them by the fused kernel, and all tokens through the second.
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
    for tokens in TOKENS {
        let input = spread(tokens * COLUMNS, 3);
        let x = Tensor::from_slice(&input, (tokens, COLUMNS), gpu.device())?;
        let second = region.part(region.bytes / 2, region.bytes / 2).unwrap_or(region);
        let found = gpu.product(second, dtype, (rows, COLUMNS), &x)?.to_vec2::<f32>()?;
        let expected = product(&input, &weights[rows * COLUMNS..], rows);
        differences.push(("a product of one expert", relative_error(&found.concat(), &expected)));
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
        differences.push(("a product of experts", relative_error(&found, &expected)));
    }
    Ok(differences)
}

/// Returns values between -1 and 1, the same in every run.
fn spread(count: usize, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; count];
    fill_values(&mut values, 0, 1.0, seed);
    values
}

/// Returns the product of each row of `x` with each of `rows` rows, in f64.
fn product(x: &[f32], weights: &[f32], rows: usize) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    x.chunks(COLUMNS)
        .flat_map(|x| weights.chunks(COLUMNS).take(rows).map(move |row| dot(x, row)))
        .collect()
}

//! Products on a device held against the same on the CPU, before any figure of it is believed.
//!
//! candle launches its quantized kernels without looking at errors, and a kernel for another kind
//! of device computes garbage in silence.

use super::device::driver_failure;
use super::{Gpu, Region};
use crate::agreement::relative_error;
use crate::device_matrix::fused_experts;
use crate::fail;
use crate::quantize::quantize_rows;
use crate::storage::dequantized;
use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::{Result, Tensor, bail};
use modelgate_protocol::{DType, Failure, FailureKind, Stage};

/// Rows and columns of the matrix that is multiplied: no power of two, more than one tile.
const ROWS: usize = 192;
const COLUMNS: usize = 768;
/// Tokens: one goes through the kernels for vectors, many through those for matrices.
const TOKENS: [usize; 2] = [1, 40];
/// Norm of the difference over the norm of what is right. The kernels round activations to 8 bits in
/// blocks of 32, which gives 4e-3 to 8e-3.
const TOLERANCE: f64 = 2.5e-2;

impl Gpu {
    /// Multiplies by a matrix of each of these types, looks up its rows and, where the type has
    /// kernels for mixtures of experts, goes through those, each compared with the CPU.
    ///
    /// # Errors
    /// `device_wrong`, with the type and the difference.
    pub(crate) fn prove(&self, dtypes: &[DType]) -> std::result::Result<(), Failure> {
        for dtype in dtypes.iter().filter(|dtype| dtype.is_quantized()) {
            // what could not be computed is no wrong result
            let differences = self.differences(dtype).map_err(fail::internal(Stage::Start))?;
            let failed = |what: &str| {
                Failure::new(
                    Stage::Start,
                    FailureKind::DeviceWrong,
                    format!(
                        "{}: {what} with {dtype} weights is not what the CPU gives",
                        self.name()
                    ),
                    "the worker may have been built for another GPU, or the GPU is damaged: build \
                     it again on this host, and look at the system's log for Xid errors",
                )
            };
            // a NaN is no small difference
            let wrong = differences.iter().find(|(_, error)| error.is_nan() || *error > TOLERANCE);
            if let Some((what, error)) = wrong {
                return Err(failed(&format!("{what} (relative difference {error:.1e})")));
            }
        }
        Ok(())
    }

    fn differences(&self, dtype: &DType) -> Result<Vec<(&'static str, f64)>> {
        let values = spread(ROWS * COLUMNS, 1);
        let Some(quantized) = quantize_rows(&values, dtype) else {
            bail!("no values in {dtype} to multiply with")
        };
        let weights = dequantized(dtype, &quantized.bytes);
        let (matrix, region) = self.blocks(dtype, &[ROWS, COLUMNS])?;
        self.write(region, &quantized.bytes)?;
        let mut differences = Vec::new();
        for tokens in TOKENS {
            let input = spread(tokens * COLUMNS, 2);
            let x = Tensor::from_slice(&input, (tokens, COLUMNS), self.device())?;
            let found = x.apply_op1_no_bwd(matrix.as_ref())?.to_vec2::<f32>()?.concat();
            differences
                .push(("a product", relative_error(&found, &product(&input, &weights, ROWS))));
        }
        let numbers = [0u32, 7, ROWS as u32 - 1];
        let ids = Tensor::new(&numbers, self.device())?;
        let found = matrix.embedding(&ids)?.to_vec2::<f32>()?.concat();
        let rows = numbers.iter().flat_map(|row| {
            let start = *row as usize * COLUMNS;
            weights[start..start + COLUMNS].iter().map(|value| f64::from(*value))
        });
        differences.push(("a lookup", relative_error(&found, &rows.collect::<Vec<_>>())));
        if fused_experts(dtype, COLUMNS) {
            differences.extend(self.expert_differences(dtype, &quantized.bytes, &weights)?);
        }
        Ok(differences)
    }

    /// The matrix as two experts of half its rows: each token through one of them by the fused
    /// kernel, and all tokens through the second.
    fn expert_differences(
        &self,
        dtype: &DType,
        bytes: &[u8],
        weights: &[f32],
    ) -> Result<Vec<(&'static str, f64)>> {
        let rows = ROWS / 2;
        let (experts, region) = self.blocks(dtype, &[2, rows, COLUMNS])?;
        self.write(region, bytes)?;
        let mut differences = Vec::new();
        for tokens in TOKENS {
            let input = spread(tokens * COLUMNS, 3);
            let x = Tensor::from_slice(&input, (tokens, COLUMNS), self.device())?;
            let second = region.part(region.bytes / 2, region.bytes / 2).unwrap_or(region);
            let found = self.product(second, dtype, (rows, COLUMNS), &x)?.to_vec2::<f32>()?;
            let right = product(&input, &weights[rows * COLUMNS..], rows);
            differences.push(("a product of one expert", relative_error(&found.concat(), &right)));
            let chosen: Vec<u32> = (0..tokens as u32).map(|token| (token + 1) % 2).collect();
            let ids = Tensor::from_slice(&chosen, (tokens, 1), self.device())?;
            let found = crate::decoder::expert_product(&x, &experts, None, &ids)?;
            let found = found.to_vec2::<f32>()?.concat();
            let right: Vec<f64> = input
                .chunks(COLUMNS)
                .zip(&chosen)
                .flat_map(|(x, expert)| {
                    let start = *expert as usize * rows * COLUMNS;
                    product(x, &weights[start..start + rows * COLUMNS], rows)
                })
                .collect();
            differences.push(("a product of experts", relative_error(&found, &right)));
        }
        Ok(differences)
    }

    fn write(&self, region: Region, bytes: &[u8]) -> Result<()> {
        debug_assert_eq!(region.bytes, bytes.len() as u64);
        let copy = || {
            self.wait()?;
            // SAFETY: the region is as long as the bytes and belongs to a live tensor; the copy is
            // over when this returns.
            unsafe { result::memcpy_htod_sync(region.address, bytes) }
        };
        copy().map_err(|error| candle_core::Error::Msg(driver_failure(self.name())(error).message))
    }
}

/// Values between -1 and 1, the same in every run.
fn spread(count: usize, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; count];
    crate::synthetic::fill_values(&mut values, 0, 1.0, seed);
    values
}

fn product(x: &[f32], weights: &[f32], rows: usize) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    x.chunks(COLUMNS)
        .flat_map(|x| weights.chunks(COLUMNS).take(rows).map(move |row| dot(x, row)))
        .collect()
}

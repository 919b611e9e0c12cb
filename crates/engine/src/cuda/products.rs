//! Products with a part of a tensor, such as one expert of many: candle multiplies with whole
//! tensors only, so its kernels for matrices are launched here as it launches them.

use super::tensors::{address, tensor};
use super::{Gpu, Region};
use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::cuda_backend::kernels::ffi;
use candle_core::{Result, Tensor, bail};
use modelgate_protocol::DType;
use std::ffi::c_void;

/// Columns are padded to a multiple of this before they are rounded to 8 bits.
const COLUMN_PADDING: usize = 512;
/// Bytes of a block of 128 rounded activations (`block_q8_1_mmq` of ggml).
const ROUNDED_BLOCK: usize = 144;
const ROUNDED_VALUES: usize = 128;
/// The widest tile of the kernels, in rows of activations and of weights.
const TILE: usize = 128;
/// The most multiprocessors for which the kernels' workspace is large enough.
const MAX_PROCESSORS: usize = 256;

type Round = unsafe extern "C" fn(
    *const c_void,
    *const i32,
    *mut c_void,
    i32,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    *mut c_void,
);
type Multiply = unsafe extern "C" fn(
    *mut c_void,
    *const c_void,
    *const c_void,
    *mut c_void,
    i64,
    i64,
    i64,
    i64,
    i64,
    i32,
    i32,
    i64,
    i32,
    *mut c_void,
);

/// Returns the kernel that rounds activations for weights of that type, and the one that multiplies
/// both.
fn kernels(dtype: &DType) -> Option<(Round, Multiply)> {
    let by_scale: Round = ffi::launch_mmq_quantize_q8_1_D4;
    let by_scale_and_sum: Round = ffi::launch_mmq_quantize_q8_1_DS4;
    let by_two_scales: Round = ffi::launch_mmq_quantize_q8_1_D2S6;
    Some(match dtype {
        DType::Q4_0 => (by_scale_and_sum, ffi::launch_mmq_gguf_q4_0 as Multiply),
        DType::Q4_1 => (by_scale_and_sum, ffi::launch_mmq_gguf_q4_1),
        DType::Q5_0 => (by_scale, ffi::launch_mmq_gguf_q5_0),
        DType::Q5_1 => (by_scale_and_sum, ffi::launch_mmq_gguf_q5_1),
        DType::Q8_0 => (by_scale, ffi::launch_mmq_gguf_q8_0),
        DType::Q2K => (by_two_scales, ffi::launch_mmq_gguf_q2_k),
        DType::Q3K => (by_scale, ffi::launch_mmq_gguf_q3_k),
        DType::Q4K => (by_scale_and_sum, ffi::launch_mmq_gguf_q4_k),
        DType::Q5K => (by_scale_and_sum, ffi::launch_mmq_gguf_q5_k),
        DType::Q6K => (by_scale, ffi::launch_mmq_gguf_q6_k),
        _ => return None,
    })
}

impl Gpu {
    /// Returns the product of each row of `x` (n, columns) with each row of the matrix
    /// (rows, columns) of blocks in `region`: (n, rows).
    pub(crate) fn product(
        &self,
        region: Region,
        dtype: &DType,
        (rows, columns): (usize, usize),
        x: &Tensor,
    ) -> Result<Tensor> {
        let cuda = self.cuda()?;
        let (count, width) = x.dims2()?;
        let Some((round, multiply)) = kernels(dtype) else { bail!("{dtype} has no kernels") };
        let (block, _) = dtype.block().unwrap_or((1, 1));
        let expected = dtype.bytes((rows * columns) as u64);
        if width != columns || expected != Some(region.bytes) {
            bail!("a product of {:?} with {rows} x {columns} in {dtype}", x.shape())
        }
        let padded = columns.div_ceil(COLUMN_PADDING) * COLUMN_PADDING;
        let rounded_bytes = (count * padded / ROUNDED_VALUES + TILE) * ROUNDED_BLOCK;
        // SAFETY: the kernels write before they read.
        let rounded = unsafe { cuda.alloc::<u8>(rounded_bytes) }?;
        // SAFETY: as above.
        let fixup = unsafe { cuda.alloc::<f32>(MAX_PROCESSORS * TILE * TILE) }?;
        // SAFETY: all of it is written.
        let out = unsafe { cuda.alloc::<f32>(count * rows) }?;
        let stream = cuda.cuda_stream();
        let handle = stream.cu_stream().cast::<c_void>();
        let pointer = |address: u64| address as *mut c_void;
        let input = pointer(address::<f32>(x)?);
        let rounded_at = pointer(rounded.device_ptr(&stream).0);
        let out_at = pointer(out.device_ptr(&stream).0);
        let fixup_at = pointer(fixup.device_ptr(&stream).0);
        let chip = self.chip();
        if chip.processors as usize > MAX_PROCESSORS {
            bail!("{} multiprocessors, and a workspace for {MAX_PROCESSORS}", chip.processors)
        }
        let wide = columns as i64;
        // SAFETY: the shapes were compared above, and every buffer is as long as the kernels require.
        unsafe {
            round(
                input,
                std::ptr::null(),
                rounded_at,
                0,
                wide,
                wide,
                0,
                0,
                padded as i64,
                count as i64,
                1,
                1,
                handle,
            );
            multiply(
                fixup_at,
                pointer(region.address),
                rounded_at,
                out_at,
                wide,
                rows as i64,
                count as i64,
                (columns / block as usize) as i64,
                rows as i64,
                chip.capability,
                chip.processors,
                chip.shared_bytes,
                chip.warp,
                handle,
            );
        }
        Ok(tensor(out, cuda, &[count, rows]))
    }
}

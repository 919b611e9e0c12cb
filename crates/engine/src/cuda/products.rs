//! Products with a part of a tensor, for example with one expert of many. candle only multiplies
//! with complete tensors, so this module launches candle's matrix kernels directly, with the same
//! arguments.

use super::tensors::{address, tensor};
use super::{Gpu, Region};
use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::cuda_backend::kernels::ffi;
use candle_core::{Result, Tensor, bail};
use modelgate_protocol::DType;
use std::ffi::c_void;

/// The number of columns of which rounded rows are a multiple. Rows are padded before they are
/// rounded to 8 bits.
const COLUMN_PADDING: usize = 512;
/// The number of bytes of a block of rounded activations (`block_q8_1_mmq` of ggml).
const ROUNDED_BLOCK_BYTES: usize = 144;
/// The number of values in a block of rounded activations.
const ROUNDED_BLOCK_VALUES: usize = 128;
/// The maximum size of a tile of the kernels, in rows of activations and in rows of weights.
const MAX_TILE_ROWS: usize = 128;
/// The maximum number of multiprocessors for which the workspace of the kernels is large enough.
const MAX_MULTIPROCESSORS: usize = 256;

/// A kernel launcher that rounds activations to 8 bits.
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
/// A kernel launcher that multiplies rounded activations with quantized weights.
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

/// Returns the launchers for weights of this type. `None` if the type has no kernels.
fn kernel_launchers(dtype: &DType) -> Option<(Round, Multiply)> {
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
    /// Returns the products of each row of `x` (n, columns) with each row of the quantized matrix
    /// (rows, columns) in `region`: (n, rows).
    ///
    /// # Errors
    /// The type has no kernels, the sizes do not match, the device has more than
    /// [`MAX_MULTIPROCESSORS`] multiprocessors, or memory cannot be allocated.
    pub(crate) fn product(
        &self,
        region: Region,
        dtype: &DType,
        (rows, columns): (usize, usize),
        x: &Tensor,
    ) -> Result<Tensor> {
        let cuda = self.cuda()?;
        let (count, width) = x.dims2()?;
        let Some((round, multiply)) = kernel_launchers(dtype) else {
            bail!("product: {dtype} has no matrix kernels")
        };
        let (block, _) = dtype.block().unwrap_or((1, 1));
        let expected = dtype.bytes((rows * columns) as u64);
        if width != columns || expected != Some(region.bytes) {
            bail!(
                "product: activations {:?} do not match a matrix ({rows}, {columns}) in {dtype} of \
                 {} bytes",
                x.shape(),
                region.bytes
            )
        }
        let padded = columns.div_ceil(COLUMN_PADDING) * COLUMN_PADDING;
        let rounded_bytes =
            (count * padded / ROUNDED_BLOCK_VALUES + MAX_TILE_ROWS) * ROUNDED_BLOCK_BYTES;
        // SAFETY: the kernels write this memory before they read it.
        let rounded = unsafe { cuda.alloc::<u8>(rounded_bytes) }?;
        // SAFETY: the kernels write this memory before they read it.
        let fixup =
            unsafe { cuda.alloc::<f32>(MAX_MULTIPROCESSORS * MAX_TILE_ROWS * MAX_TILE_ROWS) }?;
        // SAFETY: the kernels write the complete output.
        let out = unsafe { cuda.alloc::<f32>(count * rows) }?;
        let stream = cuda.cuda_stream();
        let handle = stream.cu_stream().cast::<c_void>();
        let pointer = |address: u64| address as *mut c_void;
        let input = pointer(address::<f32>(x)?);
        let rounded_pointer = pointer(rounded.device_ptr(&stream).0);
        let out_pointer = pointer(out.device_ptr(&stream).0);
        let fixup_pointer = pointer(fixup.device_ptr(&stream).0);
        let properties = self.properties();
        if properties.multiprocessors as usize > MAX_MULTIPROCESSORS {
            bail!(
                "product: expected at most {MAX_MULTIPROCESSORS} multiprocessors, found {}",
                properties.multiprocessors
            )
        }
        let columns_i64 = columns as i64;
        // SAFETY: the shapes were compared above, and every buffer is as long as the kernels
        // require.
        unsafe {
            round(
                input,
                std::ptr::null(),
                rounded_pointer,
                0,
                columns_i64,
                columns_i64,
                0,
                0,
                padded as i64,
                count as i64,
                1,
                1,
                handle,
            );
            multiply(
                fixup_pointer,
                pointer(region.address),
                rounded_pointer,
                out_pointer,
                columns_i64,
                rows as i64,
                count as i64,
                (columns / block as usize) as i64,
                rows as i64,
                properties.capability,
                properties.multiprocessors,
                properties.shared_bytes,
                properties.warp,
                handle,
            );
        }
        Ok(tensor(out, cuda, &[count, rows]))
    }
}

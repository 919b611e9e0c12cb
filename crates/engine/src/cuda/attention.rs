//! Attention on a CUDA device over a KV cache of f16 values, for which candle has no fused kernel.

use super::tensors::{address, tensor};
use super::{AttentionShape, kernels};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::{CudaDevice, Result, Tensor, bail};
use half::f16;

/// The name of the module under which candle caches the kernels.
const MODULE: &str = "modelgate_attention";
/// The number of positions that one block of threads processes. Equals `SPLIT` in the kernel.
const SPLIT: usize = 64;
/// The number of threads in a block. Equals `THREADS` in the kernel.
const THREADS: u32 = 128;
/// The number of parts in which the values of a split are summed. Equals `PARTS` in the kernel.
const PARTS: usize = 2;

/// Loads the kernels of this file. The driver compiles them if they are not in its cache.
pub(super) fn load(cuda: &CudaDevice) -> Result<()> {
    cuda.get_or_load_custom_func("attend_split", MODULE, kernels::ATTENTION).map(drop)
}

/// Rotates queries and keys by the angles of their positions (RoPE), and appends keys and values to
/// the KV cache. Returns the rotated queries (heads, n, width).
///
/// `projected` has queries (n, heads * width), keys and values (n, kv_heads * width). `angles` has
/// cosines and sines (positions, width / 2). `cache` has keys and values (kv_heads, positions,
/// width) in f16. `position` (1) is the position of the first token. The caller ensures that the
/// positions of all n tokens are inside the cache. If `interleaved`, each pair consists of adjacent
/// values, otherwise of one value from each half.
///
/// # Errors
/// A shape or a type is different, or the driver fails.
pub(crate) fn rope_append(
    projected: [&Tensor; 3],
    angles: [&Tensor; 2],
    cache: [&Tensor; 2],
    shape: AttentionShape,
    position: &Tensor,
    interleaved: bool,
) -> Result<Tensor> {
    let cuda = projected[0].device().as_cuda_device()?;
    let count = projected[0].dim(0)?;
    let positions = cache[0].dim(1)?;
    let AttentionShape { heads, kv_heads, width } = shape;
    let table = [positions, width / 2];
    let shapes_match = projected[0].dims() == [count, heads * width]
        && projected[1..].iter().all(|part| part.dims() == [count, kv_heads * width])
        && angles.iter().all(|angles| angles.dims() == table)
        && cache.iter().all(|cache| cache.dims() == [kv_heads, positions, width])
        && position.dims() == [1];
    if !shapes_match {
        bail!(
            "attention: queries, keys and values {:?} do not match the KV cache {:?}",
            projected.map(Tensor::shape),
            cache[0].shape()
        )
    }
    // SAFETY: the kernel writes the complete memory.
    let rotated = unsafe { cuda.alloc::<f32>(count * heads * width) }?;
    let [query, key, value] = projected.map(address::<f32>);
    let [cosines, sines] = angles.map(address::<f32>);
    let [keys, values] = cache.map(address::<f16>);
    let (query, key, value, cosines, sines) = (query?, key?, value?, cosines?, sines?);
    let (keys, values, position) = (keys?, values?, address::<u32>(position)?);
    let sizes = [heads, kv_heads, width, positions].map(|size| size as i32);
    let interleaved = i32::from(interleaved);
    let function = cuda.get_or_load_custom_func("rope_append", MODULE, kernels::ATTENTION)?;
    let mut builder = function.builder();
    builder.arg(&query).arg(&key).arg(&value).arg(&cosines).arg(&sines);
    builder.arg(&rotated).arg(&keys).arg(&values);
    for size in &sizes {
        builder.arg(size);
    }
    builder.arg(&position).arg(&interleaved);
    let config = LaunchConfig {
        grid_dim: (count as u32, (heads + 2 * kv_heads) as u32, 1),
        block_dim: ((width as u32 / 2).clamp(1, 1024), 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: the shapes that the kernel reads and writes were compared above, and `address`
    // ensures that the tensors are contiguous.
    unsafe { builder.launch(config) }.w()?;
    Ok(tensor(rotated, cuda, &[heads, count, width]))
}

/// Returns the attention of one token (1, heads * width).
///
/// `query` has the shape (heads, 1, width), where `width` is a multiple of 8. `cache` and
/// `position` are those of [`rope_append`]. The token attends to at most `window` positions,
/// including its own; to all of them if `window` is `None`.
///
/// # Errors
/// A shape or a type is different, or the driver fails.
pub(crate) fn attend(
    query: &Tensor,
    cache: [&Tensor; 2],
    shape: AttentionShape,
    position: &Tensor,
    window: Option<usize>,
) -> Result<Tensor> {
    let cuda = query.device().as_cuda_device()?;
    let AttentionShape { heads, kv_heads, width } = shape;
    let positions = cache[0].dim(1)?;
    let shapes_match = query.dims() == [heads, 1, width]
        && cache.iter().all(|cache| cache.dims() == [kv_heads, positions, width])
        && position.dims() == [1]
        && width.is_multiple_of(8);
    if !shapes_match {
        bail!(
            "attention: queries {:?} of one token do not match the KV cache {:?}",
            query.shape(),
            cache[0].shape()
        )
    }
    let window = window.unwrap_or(positions).min(positions);
    let splits = window.div_ceil(SPLIT);
    // SAFETY: the second kernel reads only the splits that the first kernel has written.
    let partial = unsafe { cuda.alloc::<f32>(heads * splits * (width + 2)) }?;
    // SAFETY: the second kernel writes all of `mixed`.
    let mixed = unsafe { cuda.alloc::<f32>(heads * width) }?;
    let query = address::<f32>(query)?;
    let [keys, values] = cache.map(address::<f16>);
    let (keys, values, position) = (keys?, values?, address::<u32>(position)?);
    let sizes = [heads / kv_heads, positions, width].map(|size| size as i32);
    let window = window as i32;
    let scale = 1.0 / (width as f32).sqrt();
    let function = cuda.get_or_load_custom_func("attend_split", MODULE, kernels::ATTENTION)?;
    let mut builder = function.builder();
    builder.arg(&query).arg(&keys).arg(&values).arg(&partial);
    for size in &sizes {
        builder.arg(size);
    }
    builder.arg(&position).arg(&window).arg(&scale);
    let shared = (SPLIT + width + THREADS as usize / 32 + PARTS * width) * size_of::<f32>();
    let config = LaunchConfig {
        grid_dim: (heads as u32, splits as u32, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: shared as u32,
    };
    // SAFETY: the shapes that the kernel reads and writes were compared above.
    unsafe { builder.launch(config) }.w()?;
    let function = cuda.get_or_load_custom_func("attend_combine", MODULE, kernels::ATTENTION)?;
    let mut builder = function.builder();
    let (splits, columns) = (splits as i32, width as i32);
    builder.arg(&partial).arg(&mixed).arg(&splits).arg(&columns).arg(&position).arg(&window);
    let config = LaunchConfig {
        grid_dim: (heads as u32, 1, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: `partial` and `mixed` were allocated above with the sizes that the kernel expects.
    unsafe { builder.launch(config) }.w()?;
    Ok(tensor(mixed, cuda, &[1, heads * width]))
}

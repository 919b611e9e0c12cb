//! Types whose bytes in a file are valid values in memory, and conversions between slices of such
//! values and slices of bytes.

use candle_core::quantized::GgmlType;
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K,
    BlockQ8_0,
};
use modelgate_protocol::DType;
use std::alloc::Layout;

// The bytes of files are used as values without conversion, and the files are little-endian.
const _: () = assert!(cfg!(target_endian = "little"));

/// A type whose values can be read from a file without conversion.
///
/// # Safety
/// Every bit pattern, including all zeros, must be a valid value, and the type must have no
/// padding.
pub(crate) unsafe trait Block: GgmlType + 'static {}

// SAFETY: every bit pattern is a float, and a float has no padding.
unsafe impl Block for f32 {}
// SAFETY: every bit pattern is a float, and a float has no padding.
unsafe impl Block for half::f16 {}
// SAFETY: every bit pattern is a float, and a float has no padding.
unsafe impl Block for half::bf16 {}

macro_rules! blocks {
    ($($block:ty),*) => {$(
        // SAFETY: a `repr(C)` struct of integers and f16; candle asserts that its size is the sum
        // of the sizes of its fields, so it has no padding.
        unsafe impl Block for $block {}
    )*};
}
blocks!(
    BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K,
    BlockQ6K
);

/// Evaluates `$call` with `$block` as the block type of the quantized type `$dtype`, or
/// `$otherwise` if the type has no blocks.
macro_rules! with_block {
    ($dtype:expr, $block:ident => $call:expr, else $otherwise:expr) => {{
        use candle_core::quantized::k_quants as blocks;
        use modelgate_protocol::DType as Type;
        macro_rules! arm {
            ($name:ident) => {{
                type $block = blocks::$name;
                $call
            }};
        }
        match $dtype {
            Type::Q4_0 => arm!(BlockQ4_0),
            Type::Q4_1 => arm!(BlockQ4_1),
            Type::Q5_0 => arm!(BlockQ5_0),
            Type::Q5_1 => arm!(BlockQ5_1),
            Type::Q8_0 => arm!(BlockQ8_0),
            Type::Q2K => arm!(BlockQ2K),
            Type::Q3K => arm!(BlockQ3K),
            Type::Q4K => arm!(BlockQ4K),
            Type::Q5K => arm!(BlockQ5K),
            Type::Q6K => arm!(BlockQ6K),
            Type::F32 | Type::F64 | Type::F16 | Type::Bf16 | Type::Other(_) => $otherwise,
        }
    }};
}
pub(crate) use with_block;

/// Allocates `count` zeros. `None` if the memory cannot be allocated. The operating system provides
/// zeroed pages on first access, so this cost is shared by the threads that fill them.
pub(crate) fn allocate_zeroed<T: Block>(count: usize) -> Option<Vec<T>> {
    if count == 0 {
        return Some(Vec::new());
    }
    let layout = Layout::array::<T>(count).ok()?;
    // SAFETY: the size is not zero, since neither `count` nor the size of any `Block` is zero.
    let start = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<T>();
    if start.is_null() {
        return None;
    }
    // SAFETY: allocated above by the global allocator with the layout of `count` values of T, all
    // of which are initialized, since all zeros are a valid value of every `Block`.
    Some(unsafe { Vec::from_raw_parts(start, count, count) })
}

/// Returns the bytes of blocks.
#[cfg(target_arch = "x86_64")]
pub(crate) fn bytes<T: Block>(blocks: &[T]) -> &[u8] {
    // SAFETY: the slice covers exactly these bytes, which have no padding, as `Block` requires. The
    // result borrows `blocks`.
    unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast::<u8>(), size_of_val(blocks)) }
}

/// Returns the bytes of blocks, so that a file can be read into them.
pub(crate) fn bytes_mut<T: Block>(blocks: &mut [T]) -> &mut [u8] {
    let size = std::mem::size_of_val(blocks);
    // SAFETY: the slice covers exactly these bytes, which have no padding, and any bytes are a
    // valid value of T, as `Block` requires. The result borrows `blocks`.
    unsafe { std::slice::from_raw_parts_mut(blocks.as_mut_ptr().cast::<u8>(), size) }
}

/// Returns bytes as blocks that can be written. `None` if the bytes are not aligned for blocks, or
/// are not a multiple of the block size.
pub(crate) fn blocks_mut<T: Block>(bytes: &mut [u8]) -> Option<&mut [T]> {
    // SAFETY: every bit pattern is a valid value of T, as `Block` requires.
    match unsafe { bytes.align_to_mut::<T>() } {
        ([], blocks, []) => Some(blocks),
        _ => None,
    }
}

/// Dequantizes blocks of type `dtype`. The result is in the order of the blocks, and is empty for a
/// type without blocks.
pub(crate) fn dequantized(dtype: &DType, bytes: &[u8]) -> Vec<f32> {
    fn values<T: Block>(bytes: &[u8]) -> Vec<f32> {
        let mut blocks = allocate_zeroed::<T>(bytes.len() / size_of::<T>()).unwrap_or_default();
        let block_bytes = size_of_val(blocks.as_slice());
        bytes_mut(&mut blocks).copy_from_slice(&bytes[..block_bytes]);
        let mut out = vec![0f32; blocks.len() * T::BLCK_SIZE];
        T::to_float(&blocks, &mut out);
        out
    }
    with_block!(dtype, B => values::<B>(bytes), else Vec::new())
}

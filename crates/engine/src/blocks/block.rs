//! Types whose values are their bytes in a file, and views of one as the other.

use candle_core::quantized::GgmlType;
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K,
    BlockQ8_0,
};
use modelgate_protocol::DType;
use std::alloc::Layout;

// Blocks and values are read from files byte by byte, and the files are little-endian.
const _: () = assert!(cfg!(target_endian = "little"));

/// A type whose values can be read from a file as they are.
///
/// # Safety
/// Every pattern of bits, all zeros included, must be a value, and there must be no padding.
pub(crate) unsafe trait Block: GgmlType + 'static {}

// SAFETY: a float has a value for every pattern of bits.
unsafe impl Block for f32 {}
// SAFETY: as above.
unsafe impl Block for half::f16 {}
// SAFETY: as above.
unsafe impl Block for half::bf16 {}

macro_rules! blocks {
    ($($block:ty),*) => {$(
        // SAFETY: a `repr(C)` struct of integers and f16, of the size that candle asserts to be
        // the sum of its fields' sizes.
        unsafe impl Block for $block {}
    )*};
}
blocks!(
    BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K,
    BlockQ6K
);

/// Calls `$call` with the block type of a quantized `DType` as its generic argument.
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
            Type::F32 | Type::F16 | Type::Bf16 | Type::Other(_) => $otherwise,
        }
    }};
}
pub(crate) use with_block;

/// Allocates `count` zeros; returns `None` if there is no memory. The pages come zeroed from the
/// system and are first touched by the threads that fill them, which share that work.
pub(crate) fn zeroed<T: Block>(count: usize) -> Option<Vec<T>> {
    if count == 0 {
        return Some(Vec::new());
    }
    let layout = Layout::array::<T>(count).ok()?;
    // SAFETY: the size is not zero, since neither `count` nor any `Block` is of size zero.
    let start = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<T>();
    if start.is_null() {
        return None;
    }
    // SAFETY: allocated just now by the global allocator with the layout of `count` values of T,
    // all of which are initialised, since all zeros are a value of every `Block`.
    Some(unsafe { Vec::from_raw_parts(start, count, count) })
}

/// Views blocks as bytes, to read them.
#[cfg(target_arch = "x86_64")]
pub(crate) fn bytes<T: Block>(blocks: &[T]) -> &[u8] {
    // SAFETY: the slice covers these bytes, and they have no padding, as `Block` promises; the
    // borrow is passed on.
    unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast::<u8>(), size_of_val(blocks)) }
}

/// Views blocks as bytes, to read a file into them.
pub(crate) fn bytes_mut<T: Block>(blocks: &mut [T]) -> &mut [u8] {
    let size = std::mem::size_of_val(blocks);
    // SAFETY: the slice covers these bytes, they have no padding, and whatever is written to them
    // is a value of T, as `Block` promises; the borrow is passed on.
    unsafe { std::slice::from_raw_parts_mut(blocks.as_mut_ptr().cast::<u8>(), size) }
}

/// Views bytes as blocks, to write them; returns `None` if the bytes are not aligned to whole
/// blocks.
pub(crate) fn blocks_mut<T: Block>(bytes: &mut [u8]) -> Option<&mut [T]> {
    // SAFETY: every pattern of bits is a value of T, as `Block` promises.
    match unsafe { bytes.align_to_mut::<T>() } {
        ([], blocks, []) => Some(blocks),
        _ => None,
    }
}

/// Returns the values of blocks of type `dtype` in order; empty for a type without blocks.
pub(crate) fn dequantized(dtype: &DType, bytes: &[u8]) -> Vec<f32> {
    fn values<T: Block>(bytes: &[u8]) -> Vec<f32> {
        let mut blocks = zeroed::<T>(bytes.len() / size_of::<T>()).unwrap_or_default();
        let whole = size_of_val(blocks.as_slice());
        bytes_mut(&mut blocks).copy_from_slice(&bytes[..whole]);
        let mut out = vec![0f32; blocks.len() * T::BLCK_SIZE];
        T::to_float(&blocks, &mut out);
        out
    }
    with_block!(dtype, B => values::<B>(bytes), else Vec::new())
}

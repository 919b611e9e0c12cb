//! Products of f32 rows with rows of quantized blocks, on all cores. The inputs and outputs are
//! slices, not tensors.
//!
//! Weights are used in their resident format. If the processor has AVX-512 VNNI, the rows of `x`
//! are rounded to 8 bits. A tile of the weights is unpacked into the L1 cache, to the same layout
//! for all types, and multiplied with a panel of rows before the next tile is unpacked, so that the
//! rows share the cost of unpacking. A single row bears this cost alone: q8_0 blocks are then
//! multiplied without unpacking, blocks of 256 values by candle's kernels, and other blocks are
//! still unpacked. On other processors, candle's kernels are used for all types.

#[cfg(target_arch = "x86_64")]
mod activations;
mod dispatch;
#[cfg(target_arch = "x86_64")]
mod parallel;
#[cfg(target_arch = "x86_64")]
mod rounding;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod unpack;
#[cfg(target_arch = "x86_64")]
mod vnni;

pub(crate) use dispatch::product;

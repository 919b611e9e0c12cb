//! Products of f32 rows with rows of quantized blocks, on all cores. Knows no model and no tensor:
//! plain slices in, plain slices out.
//!
//! Weights are used as they are resident. If the processor has AVX-512 VNNI, a tile of them is
//! unpacked into the first cache, to one form for all types, and multiplied with all rows of `x`,
//! which are rounded to 8 bits, before the next one is: the rows share the cost of unpacking. For a
//! single row unpacking does not pay, and it is multiplied with the blocks themselves. On other
//! processors candle's kernels of the blocks are used.

#[cfg(target_arch = "x86_64")]
mod activations;
mod dispatch;
#[cfg(target_arch = "x86_64")]
mod rounding;
#[cfg(target_arch = "x86_64")]
mod share;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod unpack;
#[cfg(target_arch = "x86_64")]
mod vnni;

pub(crate) use dispatch::product;

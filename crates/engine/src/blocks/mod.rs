//! Values and quantized blocks: the types whose bytes can be read from a file without conversion,
//! and the corresponding types of candle and of the protocol.

mod block;
mod dtype;

#[cfg(target_arch = "x86_64")]
pub(crate) use block::bytes;
pub(crate) use block::{Block, allocate_zeroed, blocks_mut, bytes_mut, dequantized, with_block};
pub(crate) use dtype::{from_ggml, to_ggml};

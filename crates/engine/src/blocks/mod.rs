//! Values and quantized blocks as they lie in files and in memory: the types whose bytes can be read
//! from a file as they are, and their names in candle and in the protocol.

mod block;
mod dtype;

#[cfg(target_arch = "x86_64")]
pub(crate) use block::bytes;
pub(crate) use block::{Block, blocks_mut, bytes_mut, dequantized, with_block, zeroed};
pub(crate) use dtype::{from_ggml, to_ggml};

//! Arithmetic with quantized blocks on the CPU of the host: matrix products and quantization.

pub(crate) mod product;
pub(crate) mod quantize;

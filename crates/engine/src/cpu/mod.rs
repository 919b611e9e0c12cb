//! Arithmetic on the host's processor with quantized blocks: products with them, and quantizing.

pub(crate) mod product;
pub(crate) mod quantize;

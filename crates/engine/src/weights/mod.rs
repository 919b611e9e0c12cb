//! Weights in memory, on the host or on a device, and random weights.
//!
//! On the host, quantized weights keep the blocks of their file format, and products use kernels
//! for these blocks directly. candle's `QTensor` is not used there: from the first product on, it
//! keeps a second, wider copy of q4_k, q6_k and q8_0 weights (6 bits in addition to 4.5 bits for
//! each weight). This is faster, but a model takes more than twice the memory that its type
//! implies.

mod device;
mod fused_experts;
mod host;
pub(crate) mod random;
mod resident_tensor;
mod rope_layout;
mod weight_map;

pub(crate) use device::{DeviceMatrix, allocate_blocks};
pub(crate) use fused_experts::{has_fused_kernel, merged_tensor};
pub(crate) use host::HostMatrix;
pub(crate) use resident_tensor::ResidentTensor;
pub(crate) use rope_layout::RopeLayout;
pub(crate) use weight_map::{WeightMap, take};

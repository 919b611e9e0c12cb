//! Weights as they are resident, on the host or on a device, and random weights.
//!
//! On the host quantized weights stay the plain blocks of their file format, and products go
//! straight to the kernels of those blocks. candle's own `QTensor` keeps a second, wider copy of q4_k,
//! q6_k and q8_0 weights from their first product on (6 bits more for each weight of 4.5): faster, but
//! a model would take more than twice the memory that its type says.

mod device;
mod fused_experts;
mod host;
pub(crate) mod random;
mod resident;
mod rope_layout;
mod weight_map;

pub(crate) use device::{DeviceMatrix, allocate_blocks};
pub(crate) use fused_experts::{has_fused_kernel, merged_tensor};
pub(crate) use host::HostMatrix;
pub(crate) use resident::Resident;
pub(crate) use rope_layout::RopeLayout;
pub(crate) use weight_map::{WeightMap, take};

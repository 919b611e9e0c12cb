//! Decides whether a model fits: its predicted memory, and whether expectations, GPUs and host
//! allow it. All such decisions of the harness are made here, from one [`LoadSpec`].
//!
//! Pure functions: from shapes and sizes to bytes and arithmetic.

mod admit;
mod bounds;
mod device_capacity;
mod host_room;
mod predict;
mod prediction;
mod refusal;
mod spec;

pub use admit::Admission;
pub use bounds::{ByteRange, MemoryBounds, bounds_refusal};
pub use device_capacity::{DeviceCapacity, device_refusal};
pub use host_room::host_refusal;
pub use predict::predict;
pub use prediction::Prediction;
pub use refusal::Refusal;
pub use spec::LoadSpec;

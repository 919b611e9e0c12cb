//! Decides whether and where a model fits: its predicted memory, whether expectations, GPUs and host
//! allow it, and the device of a model whose manifest entry names none. All such decisions of the harness are made here, from one [`LoadSpec`].
//!
//! Pure functions: from shapes and sizes to bytes and arithmetic.

mod admit;
mod bounds;
mod device_capacity;
mod device_choice;
mod host_room;
mod predict;
mod prediction;
mod refusal;
mod spec;

pub use admit::Admission;
pub use bounds::{ByteRange, MemoryBounds, bounds_refusal};
pub use device_capacity::{DeviceCapacity, device_refusal};
pub use device_choice::{
    ChosenDevice, DeviceNeed, DeviceOffer, OfferedGpu, TokenBytes, choose_device, device_need,
    largest, named_device,
};
pub use host_room::host_refusal;
pub use predict::predict;
pub use prediction::Prediction;
pub use refusal::Refusal;
pub use spec::LoadSpec;

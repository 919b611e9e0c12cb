//! An open CUDA device, its memory, and the kernels that candle does not provide.
//!
//! Only this folder calls CUDA directly. Without the feature `cuda`, the type of the device has no
//! values.

#[cfg(feature = "cuda")]
mod attention;
mod attention_shape;
#[cfg(feature = "cuda")]
mod build_info;
#[cfg(feature = "cuda")]
mod ceilings;
#[cfg(feature = "cuda")]
mod compatibility;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod device_properties;
#[cfg(feature = "cuda")]
mod driver_failures;
#[cfg(feature = "cuda")]
mod graph;
#[cfg(feature = "cuda")]
mod kernel_cache;
#[cfg(feature = "cuda")]
mod kernel_loading;
#[cfg(feature = "cuda")]
mod memory;
#[cfg(feature = "cuda")]
mod memory_tracker;
#[cfg(feature = "cuda")]
mod products;
#[cfg(feature = "cuda")]
mod random;
mod region;
#[cfg(feature = "cuda")]
mod staging;
#[cfg(not(feature = "cuda"))]
mod stub;
#[cfg(feature = "cuda")]
mod tensors;
mod upload_stats;

/// The compiled kernels of the folder `kernels`, in a file that `build.rs` writes.
#[cfg(feature = "cuda")]
#[allow(unreachable_pub)]
mod kernels {
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

#[cfg(feature = "cuda")]
pub(crate) use attention::{attend, rope_append};
pub(crate) use attention_shape::AttentionShape;
#[cfg(feature = "cuda")]
pub(crate) use build_info::{compute_capability, cuda_version};
#[cfg(feature = "cuda")]
pub(crate) use device::Gpu;
#[cfg(feature = "cuda")]
pub(crate) use graph::{Graph, write_number};
pub(crate) use region::Region;
#[cfg(feature = "cuda")]
pub(crate) use staging::Staging;
#[cfg(not(feature = "cuda"))]
pub(crate) use stub::{
    Gpu, Graph, Staging, attend, compute_capability, cuda_version, rope_append, write_number,
};
pub(crate) use upload_stats::UploadStats;

//! A CUDA device: opened and proved, its memory, and what candle does not have for it.
//!
//! The only folder that calls CUDA itself. Without the feature `cuda` there is no device, and the
//! type that stands for one has no values.

#[cfg(not(feature = "cuda"))]
mod absent;
#[cfg(feature = "cuda")]
mod attention;
#[cfg(feature = "cuda")]
mod ceilings;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod graph;
#[cfg(feature = "cuda")]
mod marks;
#[cfg(feature = "cuda")]
mod products;
#[cfg(feature = "cuda")]
mod proof;
#[cfg(feature = "cuda")]
mod staging;
#[cfg(feature = "cuda")]
mod weights;

/// What `build.rs` made of the files in `kernels`.
#[cfg(feature = "cuda")]
#[allow(unreachable_pub)]
mod kernels {
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

#[cfg(not(feature = "cuda"))]
pub(crate) use absent::{
    Gpu, Graph, Staging, attend, compute_capability, cuda_version, rope_append, write_number,
};
#[cfg(feature = "cuda")]
pub(crate) use attention::{attend, rope_append};
#[cfg(feature = "cuda")]
pub(crate) use device::{Gpu, compute_capability, cuda_version};
#[cfg(feature = "cuda")]
pub(crate) use graph::{Graph, write_number};
#[cfg(feature = "cuda")]
pub(crate) use staging::Staging;

/// A stretch of device memory that belongs to a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    /// Its address on the device.
    pub(crate) address: u64,
    /// Its length.
    pub(crate) bytes: u64,
}

impl Region {
    /// The part of `bytes` bytes from `offset` on; none where it is not inside.
    pub(crate) fn part(self, offset: u64, bytes: u64) -> Option<Region> {
        let end = offset.checked_add(bytes)?;
        (end <= self.bytes).then_some(Region { address: self.address + offset, bytes })
    }
}

/// What was copied to a device.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Copied {
    /// How much.
    pub(crate) bytes: u64,
    /// How long the device was busy with it.
    pub(crate) busy: std::time::Duration,
}

/// Sizes of attention over a cache of single tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads.
    pub(crate) kv_heads: usize,
    /// Width of a head.
    pub(crate) width: usize,
}

//! Builds workers with CUDA on the host that needs them.

mod build;
mod cargo;
mod kept_workers;
mod key;
mod nvcc;
mod writable;

pub use build::CudaBuild;

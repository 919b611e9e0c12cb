//! A worker with CUDA, built on the host that needs one.

mod build;
mod cargo;
mod kept;
mod key;
mod nvcc;
mod writable;

pub use build::CudaBuild;

//! The compute capability and the CUDA version of this build.

/// The compute capability for which the kernels were built, for example `9.0`.
pub(super) const COMPUTE_CAPABILITY: &str = env!("MODELGATE_COMPUTE_CAPABILITY");

/// The CUDA version with which the kernels were built, for example `13.0`.
pub(super) const CUDA_VERSION: &str = env!("MODELGATE_CUDA_VERSION");

/// Returns the compute capability for which the kernels were built, for example `9.0`.
pub(crate) fn compute_capability() -> Option<String> {
    Some(COMPUTE_CAPABILITY.to_owned())
}

/// Returns the CUDA version with which the kernels were built, for example `13.0`.
pub(crate) fn cuda_version() -> Option<String> {
    Some(CUDA_VERSION.to_owned())
}

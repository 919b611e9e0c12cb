//! What this build was compiled for.

/// The compute capability that the kernels were built for.
pub(super) const COMPUTE_CAPABILITY: &str = env!("MODELGATE_COMPUTE_CAPABILITY");

/// The CUDA version that they were built with.
pub(super) const CUDA_VERSION: &str = env!("MODELGATE_CUDA_VERSION");

/// Returns the compute capability that the kernels were built for.
pub(crate) fn compute_capability() -> Option<String> {
    Some(COMPUTE_CAPABILITY.to_owned())
}

/// Returns the CUDA version that the kernels were built with.
pub(crate) fn cuda_version() -> Option<String> {
    Some(CUDA_VERSION.to_owned())
}

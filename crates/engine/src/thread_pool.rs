//! The thread pool that a model is evaluated on.

/// Runs `work` on a thread of rayon's global pool, where each of its many products forks without
/// waking another thread and waiting for it first.
pub(crate) fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

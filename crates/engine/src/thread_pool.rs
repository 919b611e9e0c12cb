//! The thread pool on which a model is evaluated.

/// Runs `work` on a thread of rayon's global pool. The many products inside `work` then fork
/// directly; from another thread, each of them would first have to wake a thread of the pool and
/// wait for it.
pub(crate) fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

//! The exit codes of a worker that ends without a failure of its own.

/// The process was not started as a worker.
pub(super) const MISUSED: u8 = 2;

/// The harness is gone.
pub(super) const ABANDONED: i32 = 3;

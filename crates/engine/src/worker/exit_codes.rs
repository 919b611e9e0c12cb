//! The exit codes of a worker that ends for a reason other than a failure of its work.

/// The exit code if the process was not started as a worker.
pub(super) const MISUSED: u8 = 2;

/// The exit code if the harness has ended.
pub(super) const ABANDONED: i32 = 3;

/// The exit code if an event has no representation in JSON.
pub(super) const UNSENT: i32 = 4;

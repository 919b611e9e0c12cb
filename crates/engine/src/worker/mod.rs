//! The communication of a worker with its harness. The worker reads one request, sends events, and
//! ends as soon as the harness has ended. Does not depend on file formats or tensors.

mod activity_ceilings;
mod allocator;
mod channel;
mod engine_info;
mod exit_codes;
mod file_ceilings;
mod process;
mod request;
mod work;

pub use process::run_worker;

//! The conversation of a worker with its harness: one request in, events out, and an end as soon as the
//! harness is gone. Knows no file format and no tensor.

mod activity_ceilings;
mod channel;
mod engine_info;
mod exit_codes;
mod file_ceilings;
mod process;
mod request;
mod work;

pub use process::run_worker;

//! A run, from the command line to the exit code.

mod closed_output;
mod exit;
mod forecast;
mod idle;
mod main;
mod measure;
mod placement;
mod prefetch;
mod session;

pub use exit::{FAILED, PASSED, USAGE};
pub use main::{main, run};
pub use measure::{RunContext, measure};
pub use prefetch::{PrefetchOptions, prefetch};

//! The tasks: one file per subcommand.

pub(crate) mod docs;
pub(crate) mod fuzz_seeds;
pub(crate) mod hub;
pub(crate) mod synthesize;

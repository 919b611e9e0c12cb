//! The command line of modelgate, which checks whether language models load and work on this host.
//!
//! # Layout
//!
//! - [`modelgate_harness`]: plans, runs and judges; its page shows the flow of data, with an example.
//! - [`modelgate_engine`]: loads a model and generates, inside the program `modelgate-worker`.
//! - `modelgate_protocol`, `modelgate_model`, `modelgate_hub`: what both share, and the files of models.
//!
//! `ARCHITECTURE.md` describes the dependencies and the invariants.
//!
//! # Example
//!
//! ```text
//! modelgate run tiny-llama                 # the five checks of one bundled model
//! modelgate prefetch owner/name --verify   # the files of a model, without running it
//! ```

use clap::{Parser, Subcommand};
use modelgate_harness::run::{PrefetchOptions, prefetch, run};
use modelgate_harness::settings::Environment;
use std::ffi::OsString;
use std::process::ExitCode;

/// Says whether language models load and work on this host.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Validate models: the same as `cargo test --release --test models`, with the same arguments.
    #[command(disable_help_flag = true)]
    Run {
        /// Filters, and flags of the test runner; `modelgate run --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Fetch the files of models into the Hugging Face cache, verified, and run none.
    Prefetch {
        /// Ids of models, hub repositories, or parts of either; all models where there is none.
        filters: Vec<String>,
        /// Hash every file, also those that were found right before; what is wrong is fetched again.
        #[arg(long)]
        verify: bool,
    },
}

fn main() -> ExitCode {
    let environment = Environment::from_process();
    match Arguments::parse().command {
        Command::Run { arguments } => run(arguments, &environment),
        Command::Prefetch { filters, verify } => {
            prefetch(&PrefetchOptions { filters, verify }, &environment)
        }
    }
}

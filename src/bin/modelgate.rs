//! The command beside the tests.

use clap::{Parser, Subcommand};
use modelgate::prefetch;
use std::process::ExitCode;

/// Says whether language models load and work on this host; the tests are run by `cargo test`.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
    match Arguments::parse().command {
        Command::Prefetch { filters, verify } => {
            prefetch::run(&prefetch::Options { filters, verify })
        }
    }
}

//! The tasks of the repository, which `cargo xtask` runs.

mod tasks;

use clap::{Parser, Subcommand};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use tasks::{docs, fuzz_seeds, hub, synthesize};

/// Runs a task of the repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write the generated reference pages of `docs/reference`.
    Docs,
    /// Write model files with the real tensor shapes and random weights.
    Synthesize(synthesize::Arguments),
    /// Run a hub on loopback until standard input closes, and print the value for `HF_ENDPOINT`. It
    /// serves the folder as `owner/Tiny`, and as `owner/Gated` to the token `hf_known`.
    Hub(hub::Arguments),
    /// Write the initial inputs of the fuzz targets to `fuzz/corpus`.
    FuzzSeeds,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<(), Box<dyn Error + Send + Sync>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match task {
        Task::Docs => docs::write(&root),
        Task::Synthesize(arguments) => synthesize::write(&arguments),
        Task::Hub(arguments) => Ok(hub::serve(&arguments)?),
        Task::FuzzSeeds => Ok(fuzz_seeds::write(&root)?),
    }
}

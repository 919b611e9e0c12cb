//! Where the worker program is.

use crate::env::{self, Environment};
use modelgate_protocol::{Failure, FailureKind, Stage};
use std::path::{Path, PathBuf};

const NAME: &str = "modelgate-worker";

/// Finds the worker: where `MODELGATE_WORKER` says, else where cargo or nextest say, else beside
/// the running program.
///
/// # Errors
/// `no_worker`, with every place that was looked at.
pub fn locate(environment: &Environment) -> Result<PathBuf, Failure> {
    if let Some(path) = &environment.worker {
        return if path.is_file() {
            // a bare name would be looked for in PATH
            Ok(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
        } else {
            Err(failure(
                format!("{}={}: no such file", env::WORKER, path.display()),
                "name an executable that speaks the worker's protocol, or unset the variable",
            ))
        };
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let folders = exe.ancestors().skip(1).take(2).map(Path::to_owned);
    let places: Vec<PathBuf> = environment
        .built_worker
        .iter()
        .cloned()
        .chain(folders.map(|folder| folder.join(NAME)))
        .collect();
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| {
        let looked: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        failure(
            format!("the worker program was not found; looked for {}", looked.join(", ")),
            "`cargo test` builds it; otherwise build it with `cargo build --release` and name it \
             with MODELGATE_WORKER",
        )
    })
}

fn failure(message: String, hint: &str) -> Failure {
    Failure::new(Stage::Prepare, FailureKind::NoWorker, message, hint)
}

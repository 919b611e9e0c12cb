//! Where the worker program is.

use crate::settings::WorkerSettings;
use crate::settings::variables::WORKER;
use modelgate_protocol::{Failure, FailureKind, Stage};
use std::path::PathBuf;

/// Returns the worker: the one that `MODELGATE_WORKER` names, else the first of the places of the worker
/// that was built with this program.
///
/// # Errors
/// `no_worker`, with every place that was searched.
pub(super) fn locate(settings: &WorkerSettings) -> Result<PathBuf, Failure> {
    if let Some(path) = &settings.named {
        return if path.is_file() {
            // a bare name would be looked up in PATH
            Ok(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
        } else {
            Err(failure(
                format!("{WORKER}={}: no such file", path.display()),
                "name an executable that speaks the worker's protocol, or unset the variable",
            ))
        };
    }
    let places = &settings.built;
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

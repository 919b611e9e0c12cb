//! Where the worker program is.

use super::error::WorkerError;
use crate::settings::WorkerSettings;
use std::path::PathBuf;

/// Returns the worker: the one that `MODELGATE_WORKER` names, else the first of the places of the worker
/// that was built with this program.
///
/// # Errors
/// [`WorkerError::NamedNotFound`] and [`WorkerError::NotFound`].
pub(super) fn locate(settings: &WorkerSettings) -> Result<PathBuf, WorkerError> {
    if let Some(path) = &settings.named {
        return if path.is_file() {
            // a bare name would be looked up in PATH
            Ok(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
        } else {
            Err(WorkerError::NamedNotFound(path.clone()))
        };
    }
    let places = &settings.built;
    let built = places.iter().find(|place| place.is_file());
    built.cloned().ok_or_else(|| WorkerError::NotFound(places.clone()))
}

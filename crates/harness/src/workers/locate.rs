//! Finds the worker program.

use super::error::WorkerError;
use crate::settings::WorkerSettings;
use std::path::PathBuf;

/// Returns the worker that `MODELGATE_WORKER` names, otherwise the first existing path of the
/// worker that was built with this program.
///
/// # Errors
/// [`WorkerError::NamedNotFound`] if the named worker does not exist, [`WorkerError::NotFound`] if
/// no path of a built worker exists.
pub(super) fn locate(settings: &WorkerSettings) -> Result<PathBuf, WorkerError> {
    if let Some(path) = &settings.named {
        return if path.is_file() {
            // the system would search a bare name in PATH
            Ok(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
        } else {
            Err(WorkerError::NamedNotFound(path.clone()))
        };
    }
    let paths = &settings.built;
    let built = paths.iter().find(|path| path.is_file());
    built.cloned().ok_or_else(|| WorkerError::NotFound(paths.clone()))
}

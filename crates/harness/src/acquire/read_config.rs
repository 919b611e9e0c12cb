//! Reads the config, which is the first file of a model that is read.

use super::error::AcquireError;
use modelgate_model::Config;
use modelgate_model::small_file::{MAX_TEXT_BYTES, read_json_text};
use std::path::Path;

/// Reads the config at `path`, and returns it with its text.
///
/// # Errors
/// The file cannot be read, or does not describe a supported model.
pub fn read_config(path: &Path) -> Result<(String, Config), AcquireError> {
    let path_buf = || path.to_owned();
    let text = read_json_text(path, MAX_TEXT_BYTES)
        .map_err(|source| AcquireError::ConfigNotRead { path: path_buf(), source })?;
    let config = Config::from_json(&text)
        .map_err(|source| AcquireError::Config { path: path_buf(), source })?;
    Ok((text, config))
}

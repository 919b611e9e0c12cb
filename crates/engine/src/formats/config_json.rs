//! The `config.json` of a model whose weight files do not contain the config.

use crate::failures;
use modelgate_model::small_file::read_json_text;
use modelgate_model::{Config, ConfigError};
use modelgate_protocol::{Failure, FailureKind, ModelFiles};

/// Reads the `config.json` of a model.
///
/// # Errors
/// The file is missing, cannot be read, is malformed, or describes a model that is not supported.
pub(super) fn read_config(files: &ModelFiles) -> Result<Config, Failure> {
    let path = files.config.as_deref().ok_or_else(|| {
        failures::load(
            FailureKind::NotFound,
            format!("{}: config.json is missing", files.root.display()),
            "download config.json from the repository of the model, and put it next to the weights",
        )
    })?;
    let text = read_json_text(path, Config::MAX_TEXT_BYTES as u64);
    let text = text.map_err(|error| failures::io(path, &error))?;
    Config::from_json(&text).map_err(|error| match error {
        ConfigError::Malformed(what) => failures::corrupt(path, what),
        ConfigError::Unsupported(what) => failures::load(
            FailureKind::Unsupported,
            format!("{}: {what}", path.display()),
            "use a model with a supported architecture and supported settings",
        ),
    })
}

//! Errors of the stages below, as failures of the stage `acquire`; and of a config, which is the first
//! file that is read.

use crate::settings::SettingsError;
use modelgate_hub::HubError;
use modelgate_model::layout::LayoutError;
use modelgate_model::small_file::{MAX_TEXT_BYTES, read_text};
use modelgate_model::{Config, ConfigError};
use modelgate_protocol::{Failure, FailureKind, Stage};
use std::path::Path;

pub(super) fn of_hub(error: HubError) -> Failure {
    Failure::new(Stage::Acquire, error.kind, error.message, error.hint)
}

pub(super) fn of_layout(error: LayoutError) -> Failure {
    Failure::new(Stage::Acquire, error.kind, error.message, error.hint)
}

pub(super) fn of_settings(error: &SettingsError) -> Failure {
    let hint = error.hint();
    Failure::new(Stage::Acquire, FailureKind::TokenRefused, error.to_string(), hint)
}

/// Reads the config at `path`; returns it with its text.
///
/// # Errors
/// It cannot be read, or is not one that can be loaded.
pub fn read_config(path: &Path) -> Result<(String, Config), Failure> {
    let failure = |kind, message: String, hint: &str| {
        Failure::new(Stage::Load, kind, format!("{}: {message}", path.display()), hint)
    };
    let text = read_text(path, MAX_TEXT_BYTES).map_err(|error| {
        failure(FailureKind::Io, error.to_string(), "check the file, its permissions and the disk")
    })?;
    match Config::from_json(&text) {
        Ok(config) => Ok((text, config)),
        Err(ConfigError::Unsupported(message)) => Err(failure(
            FailureKind::Unsupported,
            message,
            "choose a model of a supported architecture, in 16 or 32 bits or as GGUF",
        )),
        Err(ConfigError::Malformed(message)) => Err(failure(
            FailureKind::Corrupt,
            message,
            "fetch config.json again from the model's repository",
        )),
    }
}

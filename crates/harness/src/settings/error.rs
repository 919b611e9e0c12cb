//! Environment variables with unusable values.

use super::variables::{BUILD, DEVICE, NEVER, VRAM_LIMIT};
use modelgate_protocol::UnknownDevice;

/// An unusable value of the environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// [`DEVICE`] does not name a device.
    #[error("{DEVICE}={value}: no such device")]
    Device {
        /// The value.
        value: String,
        /// Why the value is not a device.
        source: Option<UnknownDevice>,
    },
    /// [`VRAM_LIMIT`] is not a size. The text says what was expected.
    #[error("{VRAM_LIMIT}: {0}")]
    VramLimit(String),
    /// [`BUILD`] has a value other than [`NEVER`].
    #[error("{BUILD}={0}: no such choice")]
    Build(String),
    /// A variable of the hub cannot be used.
    #[error("{message}")]
    Hub {
        /// The name of the variable and the reason.
        message: String,
        /// How to fix it.
        hint: String,
    },
}

impl SettingsError {
    /// Returns how to fix the value.
    pub fn hint(&self) -> String {
        match self {
            SettingsError::Device { .. } => "expected cpu, cuda or cuda:N".to_owned(),
            SettingsError::VramLimit(_) => {
                format!("such as {VRAM_LIMIT}=20GB; unset it for all that there is")
            }
            SettingsError::Build(_) => {
                format!("expected {NEVER}; unset it to have a worker with CUDA built")
            }
            SettingsError::Hub { hint, .. } => hint.clone(),
        }
    }
}

impl From<modelgate_hub::SettingsError> for SettingsError {
    fn from(error: modelgate_hub::SettingsError) -> SettingsError {
        SettingsError::Hub { message: error.message, hint: error.hint }
    }
}

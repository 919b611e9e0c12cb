//! Environment variables with unusable values.

use super::variables::{BUILD, DEVICE, NEVER, VRAM_LIMIT};
use modelgate_protocol::UnknownDevice;

/// An unusable value of the environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// [`DEVICE`] does not name a device.
    #[error("{DEVICE}={value}: unknown device")]
    Device {
        /// The value of the variable.
        value: String,
        /// The reason why the value is not a device. `None` if it is not UTF-8.
        source: Option<UnknownDevice>,
    },
    /// An invalid size in [`VRAM_LIMIT`], with the reason.
    #[error("{VRAM_LIMIT}: {0}")]
    VramLimit(String),
    /// [`BUILD`] has a value other than [`NEVER`].
    #[error("{BUILD}={0}: unknown value")]
    Build(String),
    /// A variable of the hub cannot be used.
    #[error("{message}")]
    Hub {
        /// The name of the variable and the reason.
        message: String,
        /// An instruction to fix the value.
        hint: String,
    },
}

impl SettingsError {
    /// Returns an instruction to fix the value.
    pub fn hint(&self) -> String {
        match self {
            SettingsError::Device { .. } => "set it to cpu, cuda or cuda:N".to_owned(),
            SettingsError::VramLimit(_) => {
                format!(
                    "set a size, for example {VRAM_LIMIT}=20GB; or unset it to use all device \
                     memory"
                )
            }
            SettingsError::Build(_) => {
                format!("set it to {NEVER}; or unset it to allow building a worker with CUDA")
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

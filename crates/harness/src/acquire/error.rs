//! The reasons why the files of a model cannot be used.

use crate::reportable::Reportable;
use crate::settings::SettingsError;
use modelgate_hub::HubError;
use modelgate_model::ConfigError;
use modelgate_model::layout::LayoutError;
use modelgate_model::other_format::OtherFormat;
use modelgate_protocol::{FailureKind, Stage};
use std::io;
use std::path::PathBuf;

/// The hint for a temporary folder that cannot be written.
const TEMPORARY_FOLDER_HINT: &str = "set TMPDIR to a folder with some megabytes of free space";

/// The reason why the files of a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// An error of the hub, its cache or the connection to it.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A local folder or file does not contain a model.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The environment variables of the hub are invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A bundled model cannot be written to the temporary folder.
    #[error(
        "the bundled model {} cannot be written below {}: {source}",
        path.display(),
        scratch.display()
    )]
    BundledNotWritten {
        /// The path of the model in the default manifest.
        path: PathBuf,
        /// The temporary folder.
        scratch: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The folder of a synthetic model has no `config.json`.
    #[error("{}: no such file", _0.display())]
    NoConfig(PathBuf),
    /// The manifest names a tokenizer that does not exist.
    #[error("tokenizer: {}: no such file", _0.display())]
    NoTokenizer(PathBuf),
    /// No config of the repository is embedded.
    #[error("the shapes of {0} are not built in")]
    UnknownRepository(String),
    /// An embedded config cannot be written to the temporary folder.
    #[error("the config of {repo} cannot be written to {}: {source}", folder.display())]
    KnownConfigNotWritten {
        /// The repository, `owner/name`.
        repo: String,
        /// The folder below the temporary folder.
        folder: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A config cannot be read.
    #[error("{}: {source}", path.display())]
    ConfigNotRead {
        /// The path of the config.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A config does not describe a supported model.
    #[error("{}: {source}", path.display())]
    Config {
        /// The path of the config.
        path: PathBuf,
        /// The error of the config.
        source: ConfigError,
    },
}

impl Reportable for AcquireError {
    fn stage(&self) -> Stage {
        match self {
            // the config is the first file that a load reads
            AcquireError::ConfigNotRead { .. } | AcquireError::Config { .. } => Stage::Load,
            _ => Stage::Acquire,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            AcquireError::Hub(error) => error.kind,
            AcquireError::Layout(error) => error.kind,
            AcquireError::Settings(_) => FailureKind::TokenRefused,
            AcquireError::NoConfig(_)
            | AcquireError::NoTokenizer(_)
            | AcquireError::UnknownRepository(_) => FailureKind::NotFound,
            AcquireError::BundledNotWritten { .. }
            | AcquireError::KnownConfigNotWritten { .. }
            | AcquireError::ConfigNotRead { .. } => FailureKind::Io,
            AcquireError::Config { source: ConfigError::Unsupported(_), .. } => {
                FailureKind::Unsupported
            }
            AcquireError::Config { source: ConfigError::Malformed(_), .. } => FailureKind::Corrupt,
        }
    }

    fn hint(&self) -> String {
        let hint = match self {
            AcquireError::Hub(error) => &error.hint,
            AcquireError::Layout(error) => &error.hint,
            AcquireError::Settings(error) => return error.hint(),
            AcquireError::BundledNotWritten { .. } | AcquireError::KnownConfigNotWritten { .. } => {
                TEMPORARY_FOLDER_HINT
            }
            AcquireError::NoConfig(_) => {
                "put config.json into the folder that `path` names; a synthetic variant needs no \
                 other file"
            }
            AcquireError::NoTokenizer(_) => {
                "set `tokenizer` to a tokenizer.json or to a folder that contains it; a relative path \
                 starts at the folder of the manifest"
            }
            AcquireError::UnknownRepository(_) => {
                "set `path` to a folder with the config.json of the model, instead of `repo`"
            }
            AcquireError::ConfigNotRead { source, .. } => match OtherFormat::of_error(source) {
                Some(format) => format.hint(),
                None => {
                    "check that the file exists, that this user can read it, and that the disk has \
                     no errors"
                }
            },
            AcquireError::Config { source: ConfigError::Unsupported(_), .. } => {
                "use a model of a supported architecture, in 16 or 32 bits or as GGUF"
            }
            AcquireError::Config { source: ConfigError::Malformed(_), .. } => {
                "download config.json again from the repository of the model"
            }
        };
        hint.to_owned()
    }
}

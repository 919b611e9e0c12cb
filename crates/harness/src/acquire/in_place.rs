//! A model whose weights are made in place: all that it needs is a config.
//!
//! The hub's cache is not searched, and neither are files of weights.

use super::error::AcquireError;
use crate::embedded::known;
use crate::hash::sha256_hex;
use modelgate_hub::files::write_atomically;
use modelgate_model::layout::CONFIG;
use modelgate_protocol::{ModelFiles, WeightFormat};
use std::io;
use std::path::{Path, PathBuf};

/// Returns the config in the folder `root` as the files of a model that has no others.
pub(super) fn config_alone(root: PathBuf) -> Result<ModelFiles, AcquireError> {
    let config = root.join(CONFIG);
    if !config.is_file() {
        return Err(AcquireError::NoConfig(config));
    }
    let files = ModelFiles::new(root, WeightFormat::Synthetic, Vec::new());
    Ok(ModelFiles { config: Some(config), ..files })
}

/// Returns the folder below `scratch` with the embedded config of `repo`. It is named after the config's
/// hash, so that other versions of this program do not share it, and a file that is complete already is
/// kept.
pub(super) fn known_config(repo: &str, scratch: &Path) -> Result<PathBuf, AcquireError> {
    let text = known::text(repo).ok_or_else(|| AcquireError::UnknownRepository(repo.to_owned()))?;
    let digest = &sha256_hex(text.as_bytes())[..16];
    let folder = scratch.join("bundled").join(format!("config-{digest}"));
    let path = folder.join(CONFIG);
    let written = || -> io::Result<()> {
        if std::fs::read(&path).is_ok_and(|content| content == text.as_bytes()) {
            return Ok(());
        }
        std::fs::create_dir_all(&folder)?;
        write_atomically(&path, text.as_bytes())
    };
    match written() {
        Ok(()) => Ok(folder),
        Err(source) => {
            let repo = repo.to_owned();
            Err(AcquireError::KnownConfigNotWritten { repo, folder, source })
        }
    }
}

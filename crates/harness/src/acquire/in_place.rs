//! Files of a model whose weights are made in place: only a config.
//!
//! Neither the cache of the hub nor weight files are searched.

use super::error::AcquireError;
use crate::embedded::known;
use crate::hash::sha256_hex;
use modelgate_hub::files::write_atomically;
use modelgate_model::layout::CONFIG;
use modelgate_protocol::{ModelFiles, WeightFormat};
use std::io;
use std::path::{Path, PathBuf};

/// Returns the files of a model with only a config, which is in the folder `root`.
pub(super) fn config_only(root: PathBuf) -> Result<ModelFiles, AcquireError> {
    let config = root.join(CONFIG);
    if !config.is_file() {
        return Err(AcquireError::NoConfig(config));
    }
    let files = ModelFiles::new(root, WeightFormat::Synthetic, Vec::new());
    Ok(ModelFiles { config: Some(config), ..files })
}

/// Writes the embedded config of `repo` to a folder below `scratch`, and returns the folder. Its
/// name contains the hash of the config, so that different versions of this program do not share
/// it. A complete file is kept.
pub(super) fn write_known_config(repo: &str, scratch: &Path) -> Result<PathBuf, AcquireError> {
    let text = known::text(repo).ok_or_else(|| AcquireError::UnknownRepository(repo.to_owned()))?;
    let digest = &sha256_hex(text.as_bytes())[..16];
    let folder = scratch.join("bundled").join(format!("config-{digest}"));
    let path = folder.join(CONFIG);
    let write = || -> io::Result<()> {
        if std::fs::read(&path).is_ok_and(|content| content == text.as_bytes()) {
            return Ok(());
        }
        std::fs::create_dir_all(&folder)?;
        write_atomically(&path, text.as_bytes())
    };
    match write() {
        Ok(()) => Ok(folder),
        Err(source) => {
            let repo = repo.to_owned();
            Err(AcquireError::KnownConfigNotWritten { repo, folder, source })
        }
    }
}

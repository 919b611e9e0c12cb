//! A model whose weights are made in place: all that it needs is a config.
//!
//! The hub's cache is not searched, and neither are files of weights.

use crate::embedded::known;
use crate::hash::sha256_hex;
use modelgate_hub::files::write_atomically;
use modelgate_model::layout::CONFIG;
use modelgate_protocol::{Failure, FailureKind, ModelFiles, Stage, WeightFormat};
use std::io;
use std::path::{Path, PathBuf};

/// Returns the config in the folder `root` as the files of a model that has no others.
pub(super) fn config_alone(root: PathBuf) -> Result<ModelFiles, Failure> {
    let config = root.join(CONFIG);
    if !config.is_file() {
        return Err(failure(
            FailureKind::NotFound,
            format!("{}: no such file", config.display()),
            "a synthetic variant is made from the config.json in the folder that path names; \
             nothing else need be there",
        ));
    }
    let files = ModelFiles::new(root, WeightFormat::Synthetic, Vec::new());
    Ok(ModelFiles { config: Some(config), ..files })
}

/// Returns the folder below `scratch` with the embedded config of `repo`. It is named after the config's
/// hash, so that other versions of this program do not share it, and a file that is complete already is
/// kept.
pub(super) fn known_config(repo: &str, scratch: &Path) -> Result<PathBuf, Failure> {
    let text = known::text(repo).ok_or_else(|| {
        let message = format!("the shapes of {repo} are not known here");
        failure(
            FailureKind::NotFound,
            message,
            "give an entry whose path is a folder with its config.json",
        )
    })?;
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
        Err(error) => Err(failure(
            FailureKind::Io,
            format!("the config of {repo} cannot be written to {}: {error}", folder.display()),
            "TMPDIR names a folder with some megabytes of room",
        )),
    }
}

fn failure(kind: FailureKind, message: String, hint: &str) -> Failure {
    Failure::new(Stage::Acquire, kind, message, hint)
}

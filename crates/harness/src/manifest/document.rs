//! A manifest: read, checked completely, and refused with file, line and column.

use super::error::{ManifestError, Place};
use super::model::Model;
use super::read::read;
use super::resolve::resolve;
use crate::hash::sha256_hex;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The longest manifest, in bytes: room for two thousand models.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// A manifest that has been checked completely.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The file; `None` for the one that is embedded in the program.
    pub path: Option<PathBuf>,
    /// SHA-256 of its text, in hexadecimal.
    pub sha256: String,
    /// Its models, in the order of the file, each followed by its synthetic variant where it has
    /// one; at least one, ids distinct.
    pub models: Vec<Model>,
}

impl Manifest {
    /// Reads the manifest in `path`.
    ///
    /// # Errors
    /// What is wrong, with file, line and column.
    pub fn open(path: &Path) -> Result<Manifest, ManifestError> {
        let mut text = String::new();
        // one byte more than there may be: that shows in the text, whatever the file says of its size
        let read = File::open(path)
            .and_then(|file| file.take(MAX_TEXT_BYTES as u64 + 1).read_to_string(&mut text));
        read.map_err(|error| {
            ManifestError::without_place(
                &path.display().to_string(),
                format!("the manifest cannot be read: {error}"),
                "set MODELGATE_MANIFEST to a readable TOML file, or unset it to use the default \
                 manifest",
            )
        })?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Manifest::parse(&text, &path.display().to_string(), Some(absolute))
    }

    /// Checks a manifest's text. `name` is what errors call it, `path` its file, where it has one.
    ///
    /// # Errors
    /// What is wrong, with file, line and column.
    pub fn parse(text: &str, name: &str, path: Option<PathBuf>) -> Result<Manifest, ManifestError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(ManifestError::without_place(
                name,
                format!("the manifest has more than {MAX_TEXT_BYTES} bytes"),
                "set MODELGATE_MANIFEST to a manifest; put texts for the perplexity into \
                 separate files",
            ));
        }
        let place = Place { name, text };
        let raw = read(place)?;
        let models = resolve(raw, place)?;
        Ok(Manifest { path, sha256: sha256_hex(text.as_bytes()), models })
    }

    /// The folder that relative paths are taken from; none for the embedded manifest.
    pub fn folder(&self) -> Option<&Path> {
        self.path.as_deref().and_then(Path::parent)
    }
}

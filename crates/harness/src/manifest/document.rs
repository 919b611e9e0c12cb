//! Reads and validates a complete manifest. Errors name file, line and column.

use super::error::{ManifestError, ManifestText};
use super::model::Model;
use super::read::read;
use super::resolve::resolve;
use crate::hash::sha256_hex;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The maximum length of a manifest in bytes, which is sufficient for two thousand models.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// A validated manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The path of the file. `None` for the embedded manifest.
    pub path: Option<PathBuf>,
    /// The SHA-256 of the text in hexadecimal.
    pub sha256: String,
    /// The models in the order of the file, each followed by its synthetic variant if it has one.
    /// At least one model; ids are distinct.
    pub models: Vec<Model>,
}

impl Manifest {
    /// Reads the manifest at `path`.
    ///
    /// # Errors
    /// The file cannot be read, or its text is invalid. The error contains file, line and column.
    pub fn open(path: &Path) -> Result<Manifest, ManifestError> {
        let mut text = String::new();
        // one byte more than the maximum, so that `parse` refuses a longer file, whatever size the
        // operating system reports
        let read = File::open(path)
            .and_then(|file| file.take(MAX_TEXT_BYTES as u64 + 1).read_to_string(&mut text));
        read.map_err(|error| {
            ManifestError::without_position(
                &path.display().to_string(),
                format!("the manifest cannot be read: {error}"),
                "set MODELGATE_MANIFEST to a readable TOML file, or unset it to use the default \
                 manifest",
            )
        })?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Manifest::parse(&text, &path.display().to_string(), Some(absolute))
    }

    /// Validates the text of a manifest. `name` appears in errors. `path` is the file; `None` for
    /// the embedded manifest.
    ///
    /// # Errors
    /// The text is invalid. The error contains file, line and column.
    pub fn parse(text: &str, name: &str, path: Option<PathBuf>) -> Result<Manifest, ManifestError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(ManifestError::without_position(
                name,
                format!("the manifest is too long: it has more than {MAX_TEXT_BYTES} bytes"),
                "set MODELGATE_MANIFEST to a smaller manifest; put texts for the perplexity into \
                 separate files",
            ));
        }
        let manifest = ManifestText { name, text };
        let raw = read(manifest)?;
        let models = resolve(raw, manifest)?;
        Ok(Manifest { path, sha256: sha256_hex(text.as_bytes()), models })
    }

    /// Returns the folder at which relative paths start. `None` for the embedded manifest.
    pub fn folder(&self) -> Option<&Path> {
        self.path.as_deref().and_then(Path::parent)
    }
}

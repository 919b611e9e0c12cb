//! The text whose perplexity is measured, read once.

use crate::embedded::bundled;
use crate::hash::sha256_hex;
use crate::manifest::{Manifest, Model};
use crate::reportable::Reportable;
use modelgate_model::small_file::{MAX_TEXT_BYTES, read_text};
use modelgate_protocol::{Evidence, FailureKind};
use std::io;
use std::path::PathBuf;

/// The built-in text, used if the manifest gives none.
const BUILT_IN: &str = include_str!("../../../../fixtures/text/perplexity.txt");

/// A perplexity text with its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerplexityText {
    /// The content of the text file.
    pub text: String,
    /// The SHA-256 of the text in hexadecimal.
    pub sha256: String,
}

impl PerplexityText {
    fn new(text: String) -> PerplexityText {
        PerplexityText { sha256: sha256_hex(text.as_bytes()), text }
    }
}

/// Reads the perplexity text of `model`. `None` if the model is synthetic, whose perplexity is meaningless.
///
/// # Errors
/// The file that the manifest names cannot be read or is empty.
pub(super) fn perplexity_text(
    model: &Model,
    manifest: &Manifest,
) -> Result<Option<PerplexityText>, TextError> {
    if model.weights.evidence() == Evidence::Synthetic {
        return Ok(None);
    }
    let Some(path) = &model.expect.perplexity.text else {
        return Ok(Some(PerplexityText::new(BUILT_IN.to_owned())));
    };
    let text = match manifest.folder() {
        Some(folder) => {
            let path = folder.join(path);
            read_text(&path, MAX_TEXT_BYTES)
                .map_err(|source| TextError::NotRead { path, source })?
        }
        None => bundled::text(path)
            .map(str::to_owned)
            .ok_or_else(|| TextError::NotBundled(path.clone()))?,
    };
    if text.trim().is_empty() {
        return Err(TextError::Empty(path.clone()));
    }
    Ok(Some(PerplexityText::new(text)))
}

/// The reason why the perplexity text of a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The file cannot be read.
    #[error("{}: expect.perplexity.text cannot be read: {source}", path.display())]
    NotRead {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The default manifest names a file that is not embedded.
    #[error("{}: expect.perplexity.text is not a bundled file", _0.display())]
    NotBundled(PathBuf),
    /// The file is empty.
    #[error("{}: expect.perplexity.text is empty", _0.display())]
    Empty(PathBuf),
}

impl Reportable for TextError {
    fn kind(&self) -> FailureKind {
        FailureKind::NotFound
    }

    fn hint(&self) -> String {
        "set expect.perplexity.text to a readable text file; a relative path starts at the \
         folder of the manifest"
            .to_owned()
    }
}

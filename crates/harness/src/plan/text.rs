//! The text whose perplexity is measured, read once.

use crate::embedded::bundled;
use crate::hash::sha256_hex;
use crate::manifest::{Manifest, Model};
use modelgate_model::small_file::{MAX_TEXT_BYTES, read_text};
use modelgate_protocol::{Evidence, Failure, FailureKind, Stage};

/// The built-in text that is used if the manifest gives none.
const BUILT_IN: &str = include_str!("../../../../fixtures/text/perplexity.txt");

/// A text and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerplexityText {
    /// The text.
    pub text: String,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

impl PerplexityText {
    fn new(text: String) -> PerplexityText {
        PerplexityText { sha256: sha256_hex(text.as_bytes()), text }
    }
}

/// Reads the text of `model`; `None` for a synthetic model, which no text surprises.
///
/// # Errors
/// The file that the manifest names cannot be read or is empty.
pub(super) fn perplexity_text(
    model: &Model,
    manifest: &Manifest,
) -> Result<Option<PerplexityText>, Failure> {
    if model.weights.evidence() == Evidence::Synthetic {
        return Ok(None);
    }
    let Some(path) = &model.expect.perplexity.text else {
        return Ok(Some(PerplexityText::new(BUILT_IN.to_owned())));
    };
    let text = match manifest.folder() {
        Some(folder) => {
            let path = folder.join(path);
            read_text(&path, MAX_TEXT_BYTES).map_err(|error| {
                let shown = path.display();
                unusable(format!("{shown}: expect.perplexity.text cannot be read: {error}"))
            })?
        }
        None => bundled::text(path)
            .map(str::to_owned)
            .ok_or_else(|| unusable(format!("{}: not among the bundled files", path.display())))?,
    };
    if text.trim().is_empty() {
        return Err(unusable(format!("{}: expect.perplexity.text is empty", path.display())));
    }
    Ok(Some(PerplexityText::new(text)))
}

fn unusable(message: String) -> Failure {
    Failure::new(
        Stage::Prepare,
        FailureKind::NotFound,
        message,
        "expect.perplexity.text is a readable text file; a relative path is taken from the \
         manifest's folder",
    )
}

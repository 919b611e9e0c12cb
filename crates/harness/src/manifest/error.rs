//! Errors in a manifest, with their position.

use std::ops::Range;

/// The maximum length in bytes of a message, a hint and an excerpt. They quote the manifest, which
/// may be one long line.
const MAX_QUOTE_BYTES: usize = 500;

/// The text of a manifest, with its name in errors.
#[derive(Debug, Clone, Copy)]
pub struct ManifestText<'a> {
    /// The path of the file, or a description of the embedded manifest.
    pub name: &'a str,
    /// The complete TOML text.
    pub text: &'a str,
}

/// An error in a manifest: problem, position and fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.render())]
pub struct ManifestError {
    /// The file, with line and column if they are known.
    pub location: String,
    /// The problem: expected and found.
    pub message: String,
    /// The number and text of the line of the manifest that contains the error. `None` if the
    /// position is unknown or the line is empty.
    pub excerpt: Option<String>,
    /// How to fix it.
    pub hint: String,
}

impl ManifestError {
    /// Creates an error at the bytes `span` of the manifest.
    pub(super) fn at(
        manifest: ManifestText<'_>,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> ManifestError {
        let start = span.start.min(manifest.text.len());
        let before = manifest.text.get(..start).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let text = manifest.text.lines().nth(line - 1).unwrap_or("").trim_end();
        ManifestError {
            location: format!("{}:{line}:{column}", manifest.name),
            message: truncated(message.into()),
            excerpt: (!text.is_empty()).then(|| truncated(format!("{line:>5} | {text}"))),
            hint: truncated(hint.into()),
        }
    }

    /// Creates an error that concerns the complete manifest `name`.
    pub(super) fn without_position(name: &str, message: String, hint: &str) -> ManifestError {
        ManifestError { location: name.to_owned(), message, excerpt: None, hint: hint.to_owned() }
    }

    fn render(&self) -> String {
        let mut text = format!("{}: {}", self.location, self.message);
        if let Some(excerpt) = &self.excerpt {
            text.push_str(&format!("\n{excerpt}"));
        }
        if !self.hint.is_empty() {
            text.push_str(&format!("\nhint: {}", self.hint));
        }
        text
    }
}

fn truncated(mut text: String) -> String {
    if text.len() > MAX_QUOTE_BYTES {
        text.truncate(text.floor_char_boundary(MAX_QUOTE_BYTES));
        text.push_str("..");
    }
    text
}

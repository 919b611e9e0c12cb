//! Errors in a manifest, with their position.

use std::ops::Range;

/// The maximum length in bytes of a message and of an excerpt. Both quote the manifest, which may
/// be one long line.
const MAX_SHOWN_BYTES: usize = 500;

/// The text of a manifest, with its name in errors.
#[derive(Debug, Clone, Copy)]
pub struct ManifestText<'a> {
    /// The path of the file, or a description.
    pub name: &'a str,
    /// The text.
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
    /// The line of the manifest, if it is known.
    pub excerpt: Option<String>,
    /// How to fix it.
    pub hint: String,
}

impl ManifestError {
    /// Creates an error at the bytes `span` of the manifest.
    pub(super) fn at(
        place: ManifestText<'_>,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> ManifestError {
        let start = span.start.min(place.text.len());
        let before = place.text.get(..start).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let text = place.text.lines().nth(line - 1).unwrap_or("").trim_end();
        ManifestError {
            location: format!("{}:{line}:{column}", place.name),
            message: shown(message.into()),
            excerpt: (!text.is_empty()).then(|| shown(format!("{line:>5} | {text}"))),
            hint: shown(hint.into()),
        }
    }

    /// Creates an error about a complete manifest.
    pub(super) fn without_place(name: &str, message: String, hint: &str) -> ManifestError {
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

fn shown(mut text: String) -> String {
    if text.len() > MAX_SHOWN_BYTES {
        text.truncate(text.floor_char_boundary(MAX_SHOWN_BYTES));
        text.push_str("..");
    }
    text
}

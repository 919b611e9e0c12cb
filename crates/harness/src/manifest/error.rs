//! What is wrong with a manifest, and where.

use std::ops::Range;

/// The longest message and the longest line that are shown, in bytes. Both quote the manifest, which may
/// be one line.
const MAX_SHOWN_BYTES: usize = 500;

/// A manifest's text and the name that errors call it by.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Path of the file, or what else it is.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
}

/// What is wrong, where, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.render())]
pub struct ManifestError {
    /// File, and line and column where they are known.
    pub location: String,
    /// What is wrong: expected and found.
    pub message: String,
    /// The line of the manifest, where it is known.
    pub excerpt: Option<String>,
    /// What to do.
    pub hint: String,
}

impl ManifestError {
    /// An error about the bytes `span` of the manifest.
    pub(super) fn at(
        place: Place<'_>,
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

    /// An error about a manifest as a whole.
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

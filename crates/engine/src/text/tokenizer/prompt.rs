//! A chat that a template has rendered.

use super::reserved::MARK;

/// A chat that a template has rendered.
pub struct Prompt {
    text: String,
    marked: String,
}

impl Prompt {
    /// Creates a prompt from a text with a mark before each special token that the template wrote.
    pub(super) fn new(marked: String) -> Prompt {
        let text = marked.chars().filter(|letter| *letter != MARK).collect();
        Prompt { text, marked }
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the text with a mark before each special token that the template wrote.
    pub(crate) fn marked(&self) -> &str {
        &self.marked
    }
}

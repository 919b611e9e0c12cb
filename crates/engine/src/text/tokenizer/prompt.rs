//! A chat as a template has rendered it.

use super::reserved::MARK;

/// A chat as a template has rendered it.
pub struct Prompt {
    text: String,
    marked: String,
}

impl Prompt {
    /// Creates the prompt of a text with a mark before each special token that the template wrote.
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

//! What a rule reports.

use std::fmt;

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A file, a file with a line, or a folder.
    pub place: String,
    /// What is wrong there.
    pub message: String,
}

impl Finding {
    /// Reports `message` at `place`.
    pub(crate) fn new(place: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding { place: place.into(), message: message.into() }
    }

    /// Reports `message` at a line of a file.
    pub(crate) fn at_line(file: &str, line: usize, message: impl Into<String>) -> Finding {
        Finding::new(format!("{file}:{line}"), message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.place, self.message)
    }
}

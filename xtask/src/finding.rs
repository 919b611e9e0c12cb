//! The findings that rules report.

use std::fmt;

/// A violation of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The path of a file or a folder, for example `src/main.rs`, or a path with a line, for
    /// example `src/main.rs:3`.
    pub place: String,
    /// The description of the violation.
    pub message: String,
}

impl Finding {
    /// Creates a finding with `message` at `place`.
    pub(crate) fn new(place: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding { place: place.into(), message: message.into() }
    }

    /// Creates a finding with `message` at a line of a file.
    pub(crate) fn at_line(file: &str, line: usize, message: impl Into<String>) -> Finding {
        Finding::new(format!("{file}:{line}"), message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.place, self.message)
    }
}

//! Formats values and text for Markdown.

use modelgate_model::units::format_duration;
use std::time::Duration;

/// Formats a number of seconds with a unit.
pub(super) fn seconds(value: f64) -> String {
    // a worker can report any finite number
    format_duration(Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::MAX))
}

/// Returns `text` in one line, with `<` escaped.
pub(super) fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('<', "\\<")
}

/// Returns `text` for a cell of a table: in one line, with `<` and `|` escaped.
pub(super) fn cell(text: &str) -> String {
    line(text).replace('|', "\\|")
}

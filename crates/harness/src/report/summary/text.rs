//! Escapes text for Markdown.

use modelgate_model::units::format_duration;
use std::time::Duration;

/// Returns seconds with a unit.
pub(super) fn seconds(value: f64) -> String {
    // the figure of a worker may be any finite number
    format_duration(Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::MAX))
}

/// Returns text in one line, with escaped Markdown characters.
pub(super) fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('<', "\\<")
}

/// Returns text for a cell of a table.
pub(super) fn cell(text: &str) -> String {
    line(text).replace('|', "\\|")
}

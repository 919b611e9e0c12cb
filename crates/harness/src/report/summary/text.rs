//! Text that Markdown shows as it is.

use modelgate_model::units::format_duration;
use std::time::Duration;

/// Returns seconds with a unit.
pub(super) fn seconds(value: f64) -> String {
    // a worker's own figure may be anything finite
    format_duration(Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::MAX))
}

/// Text in one line, without what Markdown would take for its own.
pub(super) fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('<', "\\<")
}

/// The same for a table's cell.
pub(super) fn cell(text: &str) -> String {
    line(text).replace('|', "\\|")
}

//! The names of a model's files, for messages.

use crate::formats::Source;

/// How many names a message lists.
pub(super) const MAX_NAMES: usize = 3;

/// Returns the names of all files, or the first few of many.
pub(super) fn file_list(source: &Source) -> String {
    let names = source.file_names();
    match names.len() {
        0..=MAX_NAMES => names.join(", "),
        count => format!("{} and {} more", names[..MAX_NAMES].join(", "), count - MAX_NAMES),
    }
}

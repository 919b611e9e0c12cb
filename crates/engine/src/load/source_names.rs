//! The names of the files of a model, for messages.

use crate::formats::Source;

/// The maximum number of names that a message lists.
pub(super) const MAX_NAMES: usize = 3;

/// Returns the names of all files, separated by commas; if there are more than [`MAX_NAMES`], the
/// first names and the number of the others.
pub(super) fn file_list(source: &Source) -> String {
    let names = source.file_names();
    match names.len() {
        0..=MAX_NAMES => names.join(", "),
        count => format!("{} and {} more", names[..MAX_NAMES].join(", "), count - MAX_NAMES),
    }
}

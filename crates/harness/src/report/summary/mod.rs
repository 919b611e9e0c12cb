//! The report in Markdown, for people.

mod files;
mod memory;
mod summary;
mod text;
mod time;

pub use files::files;
pub use summary::summary;

//! Checks of the repository: each rule is a function from sources to findings.
//!
//! `tests/tidy.rs` applies every rule to the repository. The unit tests of each rule apply it to
//! example sources. The rules about code read tokens, so comments and strings do not count as code.

mod document;
mod finding;
mod items;
mod module_graph;
mod reference;
mod repository;
pub mod rules;
mod source;
mod texts;
mod tokens;

pub use document::Document;
pub use finding::Finding;
pub use reference::{Page, pages};
pub use repository::{Manifest, Repository};
pub use source::Source;
pub use texts::texts;
pub use tokens::{LexError, Token};

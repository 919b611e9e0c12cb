//! Checks of the repository itself, each a function from sources to findings.
//!
//! `tests/tidy.rs` applies every rule to the repository; each rule's own tests show it failing on a
//! source made up for that. The rules read tokens, so comments and strings never count as code.

mod document;
mod finding;
mod items;
mod module_graph;
mod reference;
mod repository;
pub mod rules;
mod source;
mod tokens;

pub use document::Document;
pub use finding::Finding;
pub use reference::{Page, pages};
pub use repository::{Manifest, Repository};
pub use source::Source;
pub use tokens::{Token, Unreadable};

//! The reference pages of `docs/reference`, generated from the sources and the JSON schemas.

mod environment;
mod failures;
mod json_schema;
mod manifest;
mod pages;
mod table;

pub use pages::{Page, pages};

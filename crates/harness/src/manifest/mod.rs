//! The manifest: the models, and the expectations of each.
//!
//! All values are validated here, so that later stages can rely on them. This module reads only the
//! manifest file; it uses no other file, no network and no device.

mod document;
mod error;
mod expect;
mod model;
mod questions;
mod read;
mod resolve;
mod resolver;
mod source;
mod synthetic;

pub use document::Manifest;
pub use error::{ManifestError, ManifestText};
pub use model::{
    DeviceChoice, Expect, LoadTime, Model, PerplexityBound, Question, Source, WeightOrigin, title,
};

//! The manifest: which models, and what is expected of each.
//!
//! Parses and refuses; everything after it can trust what it contains. Knows no disk beyond the
//! manifest's own file, no network and no device.

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
pub use error::{ManifestError, Place};
pub use model::{
    DeviceChoice, Expect, LoadTime, Model, PerplexityBound, Question, Source, Weights, title,
};

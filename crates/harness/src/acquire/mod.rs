//! From the location of a model to verified local files, in two steps: first the small files, then
//! the weights. The model may be refused between the steps.
//!
//! This module reads weights only to hash them, reads their headers, and does not know the engine.

mod acquire;
mod companions;
mod error;
mod headers;
mod in_place;
mod observer;
mod page_cache;
mod read_config;

pub use acquire::{AcquireOptions, OpenedModel, ReadyModel, open};
pub use error::AcquireError;
pub use read_config::read_config;

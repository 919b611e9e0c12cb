//! From a model's location to local files that are what they should be, in two steps, between which the
//! model may be refused: the small files first, then the weights.
//!
//! Reads no weights except to hash them, and knows no engine.

mod acquire;
mod error;
mod in_place;
mod observer;
mod page_cache;
mod read_config;

pub use acquire::{AcquireOptions, Opened, Ready, open};
pub use error::AcquireError;
pub use read_config::read_config;

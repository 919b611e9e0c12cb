//! From a manifest to what is to be done: the cases, which of them a command line selects, and for each
//! model the job that its cases share.

mod cases;
mod expect;
mod job;
mod questions;
mod select;
mod text;

pub use cases::{Case, Plan};
pub use job::{Location, ModelJob, Requests};
pub use select::{Selection, models, near_hint};
pub use text::{PerplexityText, TextError};

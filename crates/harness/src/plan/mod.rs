//! From a manifest to the work: the cases, those that a command line selects, and the job of each
//! model that its cases share.

mod cases;
mod expect;
mod job;
mod questions;
mod select;
mod text;

pub use cases::{Case, Plan};
pub use job::{Location, ModelJob, Requests};
pub use select::{IdleFilter, IdleReason, Selection, models, similar_ids_hint};
pub use text::{PerplexityText, TextError};

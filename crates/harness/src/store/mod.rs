//! The store of a run: a folder in which its processes record what they agree on, what they selected and
//! what they measured. The report is a function of it.

mod record;
mod store;

pub use record::{ModelIdentity, ModelRecord, RunRecord};
pub use store::Store;

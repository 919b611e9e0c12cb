//! The store of a run: a folder in which the processes of the run record the selected cases and the
//! measurements. The report is a function of it.

mod record;
mod store;

pub use record::{ModelIdentity, ModelRecord, RunRecord};
pub use store::Store;

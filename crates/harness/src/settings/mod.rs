//! What a run is asked to do: the process's environment as it is, and the settings that follow from it,
//! resolved once.

mod build_places;
mod environment;
mod error;
mod resolve;
pub mod variables;

pub use environment::Environment;
pub use error::SettingsError;
pub use resolve::{BuildSettings, Settings, WorkerSettings};

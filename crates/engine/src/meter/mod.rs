//! Measures the busy time of the engine's activities, and reports their progress.

mod busy;
mod progress;

pub(crate) use busy::BusyClock;
pub(crate) use progress::ProgressReporter;

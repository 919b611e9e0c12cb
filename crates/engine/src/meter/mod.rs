//! Measures how long the engine is busy with something, and reports how far it is.

mod busy;
mod progress;

pub(crate) use busy::BusyClock;
pub(crate) use progress::ProgressReporter;

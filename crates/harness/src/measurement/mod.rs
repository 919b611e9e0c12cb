//! The measurement of one model: the parts that the stages of the flow return, and their
//! combination.

mod companion;
mod headers;
mod measurement;
mod memory;
mod outcome;
mod parts;
mod tensors;
mod unmeasured;

pub use companion::Companion;
pub use headers::{HeaderTensor, Headers};
pub use measurement::{Measurement, Phase};
pub use memory::{
    DeviceMemory, ForeignProcess, HostMemory, Memory, PeakSource, Timeline, UNLOAD_TOLERANCE,
};
pub use outcome::{Outcome, WorkerExit};
pub use parts::{Acquired, MeasurementParts, ObservedMemory, Supervised, WorkerRecord};
pub use tensors::Tensors;
pub use unmeasured::Unmeasured;

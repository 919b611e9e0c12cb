//! Worker programs: their location, their engine, and the build of a worker with CUDA.

mod built;
mod cuda_build;
mod engine;
mod error;
mod locate;
mod missing_library;
mod workers;

pub use built::BuiltWorker;
pub use cuda_build::CudaBuild;
pub use engine::engine_of;
pub use error::{BuildObstacle, RecordedError, WorkerError};
pub use missing_library::MissingLibrary;
pub use workers::Workers;

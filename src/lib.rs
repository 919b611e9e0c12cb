//! modelgate says whether language models load and work on this host.
//!
//! One direction, no way back:
//! manifest -> plan -> acquire -> worker, watched by probes -> measurement -> checks -> report.
//! Each model and each check is a named test; [`harness::main`] is what the test target `models`
//! calls. The harness links no engine: it talks to a worker process, see `modelgate_protocol`.

pub mod acquire;
pub mod bundled;
pub mod check;
pub mod cuda_build;
pub mod env;
pub mod gpu;
pub mod harness;
pub mod hash;
pub mod host;
pub mod known;
pub mod manifest;
pub mod measure;
pub mod plan;
pub mod predict;
pub mod prefetch;
pub mod progress;
pub mod report;
pub mod select;
mod session;
pub mod signal;
pub mod store;
pub mod worker;
pub mod workers;

//! The engine of a worker.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The engine of a worker, which loads a model and generates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Engine {
    /// The name, such as `candle`.
    pub name: String,
    /// The version.
    pub version: String,
    /// The build profile and the features.
    pub build: String,
    /// The compute capability for which the CUDA kernels were compiled, for example `9.0`. `None`
    /// without CUDA, or if the kernels run on all GPUs.
    pub compute_capability: Option<String>,
    /// The CUDA version of the build, such as `13.0`. `None` without CUDA.
    #[serde(default)]
    pub cuda: Option<String>,
}

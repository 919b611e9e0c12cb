//! The engine inside a worker.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What loads and generates inside a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Engine {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// How it was built: profile and features.
    pub build: String,
    /// Compute capability that its kernels were built for, such as `9.0`; none without CUDA, or
    /// where they run on any.
    pub compute_capability: Option<String>,
    /// CUDA version that it was built with, such as `13.0`; none without CUDA.
    #[serde(default)]
    pub cuda: Option<String>,
}

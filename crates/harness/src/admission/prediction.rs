//! Predicted bytes of a model, by what takes them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the shapes say before anything is loaded. Sums of these are the predicted peaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// Weights in their resident types.
    pub weights: u64,
    /// Key/value cache for the context asked for.
    pub kv_cache: u64,
    /// Activations and staging buffers at their largest.
    pub activations: u64,
    /// What a worker takes on the host before its first weight.
    pub baseline: u64,
    /// What it takes on all devices before its first weight, as the worker itself measured it; none
    /// before it has, and for a model on the CPU.
    #[serde(default)]
    pub device_baseline: Option<u64>,
    /// The sum on the host.
    pub host_peak: u64,
    /// The sum over devices other than the host; 0 for a model on the CPU.
    pub device_peak: u64,
    /// Bytes that the source's files take.
    #[serde(default)]
    pub disk: u64,
}

impl Prediction {
    /// Returns the prediction with the bytes that the worker measured itself to take on its devices
    /// before the first weight.
    pub fn with_device_baseline(self, baseline: u64) -> Prediction {
        let old = self.device_baseline.unwrap_or(0);
        let device_peak = self.device_peak.saturating_sub(old).saturating_add(baseline);
        Prediction { device_baseline: Some(baseline), device_peak, ..self }
    }
}

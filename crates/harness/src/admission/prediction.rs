//! The predicted bytes of a model, by purpose.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The memory of a load, predicted from the shapes before the load, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// The weights in their resident types.
    pub weights: u64,
    /// The KV cache for the requested context.
    pub kv_cache: u64,
    /// The largest activations and staging buffers.
    pub activations: u64,
    /// The memory of a worker on the host before its first weight.
    pub baseline: u64,
    /// The memory of the worker on all devices before its first weight, as the worker measured it.
    /// `None` before the measurement, and for a model on the CPU.
    #[serde(default)]
    pub device_baseline: Option<u64>,
    /// The predicted peak on the host.
    pub host_peak: u64,
    /// The predicted peak on all devices other than the host; 0 for a model on the CPU.
    pub device_peak: u64,
    /// The bytes of the source files; 0 for weights made in place.
    #[serde(default)]
    pub disk: u64,
}

impl Prediction {
    /// Returns the prediction with the bytes that the worker measured on its devices before the
    /// first weight.
    pub fn with_device_baseline(self, baseline: u64) -> Prediction {
        let old_baseline = self.device_baseline.unwrap_or(0);
        let device_peak = self.device_peak.saturating_sub(old_baseline).saturating_add(baseline);
        Prediction { device_baseline: Some(baseline), device_peak, ..self }
    }
}

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
    /// The bytes by which the peak on the host may exceed `host_peak`, because each thread of the
    /// worker may have buffers. They grow with the number of cores. `None` before that number is
    /// known, and in older reports.
    #[serde(default)]
    pub thread_buffers: Option<u64>,
    /// The bytes of the source files; 0 for weights made in place.
    #[serde(default)]
    pub disk: u64,
}

/// The maximum bytes of host memory that one core adds to a worker. For each core, the engine has a
/// thread that loads and threads that evaluate:
///
/// - 3 MiB to load: a piece of 1 MiB of a file with 16-bit values, and the same values as f32. The
///   allocator may keep them after the load.
/// - up to 2 MiB to evaluate: the panel of a matrix product in f32, which has the size of the L2 cache
///   of a core, or the unpacked tile of a quantized one.
/// - less than 1 MB for the used parts of the stacks of these threads.
///
/// It is a maximum, because on a host with many cores a short load does not use every thread.
const BYTES_PER_CORE: u64 = 6_000_000;

impl Prediction {
    /// Returns the prediction for a worker that uses `cores` cores.
    pub fn with_cores(self, cores: u64) -> Prediction {
        let thread_buffers = Some(cores.saturating_mul(BYTES_PER_CORE));
        Prediction { thread_buffers, ..self }
    }

    /// Returns the prediction with the bytes that the worker measured on its devices before the
    /// first weight.
    pub fn with_device_baseline(self, baseline: u64) -> Prediction {
        let old_baseline = self.device_baseline.unwrap_or(0);
        let device_peak = self.device_peak.saturating_sub(old_baseline).saturating_add(baseline);
        Prediction { device_baseline: Some(baseline), device_peak, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction() -> Prediction {
        Prediction {
            weights: 1,
            kv_cache: 2,
            activations: 3,
            baseline: 4,
            device_baseline: None,
            host_peak: 461_000_000,
            device_peak: 6,
            thread_buffers: None,
            disk: 7,
        }
    }

    #[test]
    fn buffers_of_threads_grow_with_the_cores_and_are_not_part_of_the_peak() {
        for (cores, bytes) in [
            (0, 0),
            (1, 6_000_000),
            (2, 12_000_000),
            (16, 96_000_000),
            (128, 768_000_000),
            (u64::MAX, u64::MAX),
        ] {
            let expected = Prediction { thread_buffers: Some(bytes), ..prediction() };
            assert_eq!(prediction().with_cores(cores), expected);
            assert_eq!(expected.with_cores(2).thread_buffers, Some(12_000_000), "replaced");
        }
    }

    #[test]
    fn the_baseline_of_the_devices_is_added_once() {
        let completed = prediction().with_device_baseline(10);
        let expected = Prediction { device_baseline: Some(10), device_peak: 16, ..prediction() };
        assert_eq!(completed, expected);
        let expected = Prediction { device_baseline: Some(1), device_peak: 7, ..prediction() };
        assert_eq!(completed.with_device_baseline(1), expected);
        let largest = prediction().with_device_baseline(u64::MAX).device_peak;
        assert_eq!(largest, u64::MAX);
    }
}

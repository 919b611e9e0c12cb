//! Predicts the memory of a load.

use super::prediction::Prediction;
use super::spec::LoadSpec;
use modelgate_model::{COMPARED_LAYERS, Config};
use modelgate_protocol::{DType, Evidence};

/// Bytes of the engine process on the host in addition to the shapes: runtime, tokenizer, thread
/// stacks, staging buffers, and freed memory that the allocator keeps. With it, the prediction for
/// 270 million weights on 2 cores is within 3 % or 30 MB of the measured peak, for `none` and
/// `q4_k`, with contexts of 256, 1024 and 2048.
const HOST_BASELINE: u64 = 32_000_000;

/// The host memory in bytes that the engine process uses for the driver and the libraries when the
/// model is on GPUs. On one host with 16 cores and a GPU of compute capability 9.0, the peaks of eight
/// models are within 60 MB of the prediction, which also contains [`GPU_STAGING`]. They are 100 MB
/// above it if the driver had to compile the kernels.
const GPU_HOST_BASELINE: u64 = 300_000_000;

/// Bytes of the page-locked host buffers through which weights are copied to a GPU.
const GPU_STAGING: u64 = 100_000_000;

/// Returns the predicted peaks of a load, without the buffers of threads.
pub fn predict(spec: &LoadSpec) -> Prediction {
    let on_gpu = spec.uses_gpu();
    let bytes = spec.bytes(on_gpu);
    let sum = bytes.weights.saturating_add(bytes.kv_cache).saturating_add(bytes.activations);
    let (baseline, more) = if on_gpu {
        (GPU_HOST_BASELINE, GPU_STAGING.saturating_add(compared_bytes(spec)))
    } else {
        (HOST_BASELINE, sum)
    };
    Prediction {
        weights: bytes.weights,
        kv_cache: bytes.kv_cache,
        activations: bytes.activations,
        baseline,
        device_baseline: None,
        host_peak: baseline.saturating_add(more),
        device_peak: if on_gpu { sum } else { 0 },
        thread_buffers: 0,
        disk: match (spec.in_place, spec.file_bytes) {
            (true, _) => 0,
            (false, Some(files)) => files,
            // each parameter of safetensors files has 16 bits in nearly all repositories
            (false, None) => bytes.parameters.saturating_mul(2),
        },
    }
}

/// Returns the bytes of the layers of a synthetic model that are also in host memory, for the
/// comparison with the device.
fn compared_bytes(spec: &LoadSpec) -> u64 {
    if spec.evidence != Evidence::Synthetic {
        return 0;
    }
    let layers = spec.config.layers.min(COMPARED_LAYERS);
    let prefix = Config { layers, ..spec.config.clone() };
    modelgate_model::predict(&prefix, spec.quantization, &DType::Bf16, 1, false).weights
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::llama_70b;
    use super::*;
    use modelgate_protocol::Device;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn layers_compared_with_the_cpu_are_also_on_the_host() {
        let peak = |spec: &LoadSpec, device| {
            predict(&LoadSpec { devices: vec![device], ..spec.clone() }).host_peak
        };
        let real = llama_70b("q4_k");
        let synthetic = LoadSpec { evidence: Evidence::Synthetic, in_place: true, ..real.clone() };
        // embedding, output and two layers of 856 million weights in 4.5 bits
        let more = peak(&synthetic, Device::Cuda(0)) - peak(&real, Device::Cuda(0));
        assert!((2_140_000_000..2_150_000_000).contains(&more), "{more}");
        assert_eq!(peak(&synthetic, Device::Cpu), peak(&real, Device::Cpu));
    }

    #[test]
    fn a_baseline_completes_the_prediction() {
        let initial = predict(&llama_70b("q4_k"));
        assert_eq!(initial.device_baseline, None);
        assert_eq!(initial.device_peak, initial.weights + initial.kv_cache + initial.activations);
        assert_eq!(initial.disk, 2 * 70_553_706_496);
        let completed = initial.clone().with_device_baseline(GB).with_device_baseline(GB / 2);
        assert_eq!(completed.device_baseline, Some(GB / 2));
        assert_eq!(completed.device_peak, initial.device_peak + GB / 2);
    }
}

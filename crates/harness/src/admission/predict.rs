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
        thread_buffers: None,
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
    #[test]
    fn the_peaks_are_the_sums_of_their_parts() {
        let on_gpu = predict(&llama_70b("q4_k"));
        let expected = Prediction {
            weights: 39_690_993_664,
            kv_cache: 1_342_177_280,
            activations: 346_280_960,
            baseline: 300_000_000,
            device_baseline: None,
            // the baseline and 100 MB of page-locked buffers
            host_peak: 400_000_000,
            device_peak: 39_690_993_664 + 1_342_177_280 + 346_280_960,
            thread_buffers: None,
            disk: 2 * 70_553_706_496,
        };
        assert_eq!(on_gpu, expected);
        let spec = LoadSpec { devices: vec![Device::Cpu], ..llama_70b("q4_k") };
        let on_cpu = Prediction {
            kv_cache: 2_684_354_560,
            activations: 277_337_088,
            baseline: 32_000_000,
            host_peak: 39_690_993_664 + 2_684_354_560 + 277_337_088 + 32_000_000,
            device_peak: 0,
            ..expected
        };
        assert_eq!(predict(&spec), on_cpu);
    }

    #[test]
    fn the_disk_holds_the_files() {
        let disk = |in_place, file_bytes| {
            predict(&LoadSpec { in_place, file_bytes, ..llama_70b("q4_k_m") }).disk
        };
        assert_eq!(disk(true, None), 0);
        assert_eq!(disk(true, Some(5)), 0);
        assert_eq!(disk(false, Some(5)), 5);
        assert_eq!(disk(false, None), 141_107_412_992);
    }

    #[test]
    fn only_synthetic_models_on_a_device_have_layers_on_the_host() {
        for (evidence, device, compared) in [
            (Evidence::Real, Device::Cuda(0), 0),
            (Evidence::Synthetic, Device::Cuda(0), 2_144_763_904),
        ] {
            let spec = LoadSpec { evidence, devices: vec![device], ..llama_70b("q4_k") };
            assert_eq!(compared_bytes(&spec), compared);
            assert_eq!(predict(&spec).host_peak, 400_000_000 + compared);
        }
    }
}

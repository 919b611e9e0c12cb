//! Decides whether a load fits into the host memory.

use super::prediction::Prediction;
use super::refusal::Refusal;
use super::spec::LoadSpec;
use modelgate_model::units::format_bytes;
use modelgate_protocol::FailureKind;

/// Returns a refusal of a load whose predicted peak exceeds the host memory of `memory` bytes.
/// `None` if it fits, or if `memory` is 0, which means that it is unknown.
pub fn host_refusal(spec: &LoadSpec, prediction: &Prediction, memory: u64) -> Option<Refusal> {
    if memory == 0 || prediction.host_peak <= memory {
        return None;
    }
    let process = format_bytes(prediction.baseline);
    let on_gpu = prediction.device_peak > 0;
    let parts = if on_gpu {
        format!("including {process} for the worker process")
    } else {
        format!(
            "{} of weights in {}, {} of KV cache, {} of activations and \
             {process} for the worker process",
            format_bytes(prediction.weights),
            spec.quantization,
            format_bytes(prediction.kv_cache),
            format_bytes(prediction.activations),
        )
    };
    let message = format!(
        "the model does not fit into the host memory: it takes {} ({parts}), and the host has {}",
        format_bytes(prediction.host_peak),
        format_bytes(memory),
    );
    let hint = if on_gpu {
        "use a host with more memory".to_owned()
    } else {
        let smaller = spec.smaller().map_or(String::new(), |smaller| {
            format!("; or use a smaller model of the family ({})", smaller.repo)
        });
        format!(
            "set `quantization` to fewer bits; or set a shorter `context`{smaller}; or use a GPU \
             (`device = \"cuda\"`)"
        )
    };
    Some(Refusal { kind: FailureKind::HostMemory, message, hint })
}

#[cfg(test)]
mod tests {
    use super::super::predict::predict;
    use super::super::spec::tests::llama_70b;
    use super::*;
    use modelgate_protocol::Device;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn a_host_that_is_too_small_is_refused_with_the_arithmetic() {
        let on_cpu = LoadSpec { devices: vec![Device::Cpu], ..llama_70b("q4_k") };
        let predicted = predict(&on_cpu);
        let peak = predicted.host_peak;
        let refused = host_refusal(&on_cpu, &predicted, peak - 1).expect("refused");
        for part in ["39.7 GB of weights in q4_k", "2.68 GB of KV cache", "32.0 MB for"] {
            assert!(refused.message.contains(part), "expected {part:?} in {}", refused.message);
        }
        assert!(refused.hint.contains("device = \"cuda\""), "{}", refused.hint);
        assert!(host_refusal(&on_cpu, &predicted, peak).is_none());
        assert!(host_refusal(&on_cpu, &predicted, 0).is_none(), "unknown host memory");
        let on_gpu = llama_70b("q4_k");
        let predicted = predict(&on_gpu);
        assert!(host_refusal(&on_gpu, &predicted, GB).is_none());
        let refused = host_refusal(&on_gpu, &predicted, GB / 10).expect("refused");
        assert!(!refused.hint.contains("cuda"), "{}", refused.hint);
    }

    #[test]
    fn a_smaller_model_of_the_family_is_proposed() {
        let repo = Some("meta-llama/Llama-3.1-70B-Instruct".to_owned());
        let spec = LoadSpec { devices: vec![Device::Cpu], repo, ..llama_70b("q4_k") };
        let refused = host_refusal(&spec, &predict(&spec), 8 * GB).expect("refused");
        assert!(refused.hint.contains("meta-llama/Llama-3.1-8B-Instruct"), "{}", refused.hint);
    }
    #[test]
    fn a_refusal_contains_the_arithmetic_of_its_device() {
        let on_cpu = LoadSpec { devices: vec![Device::Cpu], ..llama_70b("q4_k") };
        let refused = host_refusal(&on_cpu, &predict(&on_cpu), 40 * GB).expect("refused");
        assert_eq!(refused.kind, FailureKind::HostMemory);
        assert_eq!(
            refused.message,
            "the model does not fit into the host memory: it takes 42.7 GB (39.7 GB of weights in \
             q4_k, 2.68 GB of KV cache, 277 MB of activations and 32.0 MB for the worker process), \
             and the host has 40.0 GB"
        );
        assert_eq!(
            refused.hint,
            "set `quantization` to fewer bits; or set a shorter `context`; or use a GPU (`device = \
             \"cuda\"`)"
        );
        let on_gpu = llama_70b("q4_k");
        let refused = host_refusal(&on_gpu, &predict(&on_gpu), 399_999_999).expect("refused");
        assert_eq!(
            refused.message,
            "the model does not fit into the host memory: it takes 400 MB (including 300 MB for \
             the worker process), and the host has 400 MB"
        );
        assert_eq!(refused.hint, "use a host with more memory");
        assert_eq!(host_refusal(&on_gpu, &predict(&on_gpu), 400_000_000), None);
    }
}

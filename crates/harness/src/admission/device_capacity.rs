//! Decides whether a load fits on its GPUs.

use super::refusal::Refusal;
use super::spec::LoadSpec;
use crate::settings::variables::VRAM_LIMIT;
use modelgate_model::units::{format_bytes, grouped};
use modelgate_model::{PredictedBytes, kv_cache_bytes};
use modelgate_protocol::{FailureKind, Scheme};

/// The schemes that are proposed if a model is too large, in descending order of bits.
const PROPOSED: [Scheme; 6] =
    [Scheme::None, Scheme::Q8_0, Scheme::Q6K, Scheme::Q5K, Scheme::Q4K, Scheme::Q4_0];

/// The minimum context that is proposed.
const MIN_CONTEXT: usize = 256;

/// The memory of one GPU, and the part of it that is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceCapacity {
    /// The total memory of the GPU in bytes.
    pub total: u64,
    /// Bytes in use by other processes.
    pub others: u64,
    /// The limit on the bytes of a worker. `None` without a limit.
    pub limit: Option<u64>,
    /// Bytes that the worker uses before the first weight. `None` before the worker has measured
    /// them.
    pub baseline: Option<u64>,
}

impl DeviceCapacity {
    /// Returns the bytes that are available to a worker.
    fn free(&self) -> u64 {
        self.total.saturating_sub(self.others).min(self.limit.unwrap_or(u64::MAX))
    }
}

/// Returns a refusal of a load that is larger than the GPUs `capacities` together. `None` if it fits.
/// Before the baselines of the workers are known, weights and KV cache have to fit; afterwards, the
/// complete predicted peak. A model that may also be in host memory always fits here.
pub fn device_refusal(spec: &LoadSpec, capacities: &[DeviceCapacity]) -> Option<Refusal> {
    if capacities.is_empty() || spec.uses_host() {
        return None;
    }
    let free = sum(capacities, DeviceCapacity::free);
    let baseline = capacities.iter().map(|capacity| capacity.baseline).sum::<Option<u64>>();
    let bytes = spec.bytes(true);
    let needed = needed_bytes(&bytes, baseline);
    if needed <= free {
        return None;
    }
    let worker_part = baseline.map_or(String::new(), |baseline| {
        format!(
            ", the activations take {}, and the worker takes {} before the first weight is loaded",
            format_bytes(bytes.activations),
            format_bytes(baseline)
        )
    });
    let limit = capacities.iter().find_map(|capacity| capacity.limit).map(format_bytes);
    let limit_part =
        limit.map_or(String::new(), |limit| format!(", {VRAM_LIMIT} allows {limit} of each"));
    let gpus =
        if capacities.len() == 1 { "the GPU".into() } else { format!("{} GPUs", capacities.len()) };
    let message = format!(
        "the model does not fit on {gpus}: {} parameters in {} take {}, the KV cache for a \
         context of {} takes {}{worker_part}: {} in total; of {}, other processes use \
         {}{limit_part}: {} are available",
        grouped(bytes.parameters),
        spec.quantization,
        format_bytes(bytes.weights),
        spec.context(),
        format_bytes(bytes.kv_cache),
        format_bytes(needed),
        format_bytes(sum(capacities, |capacity| capacity.total)),
        format_bytes(sum(capacities, |capacity| capacity.others)),
        format_bytes(free),
    );
    let hint = alternatives(spec, &bytes, baseline, free).join("; or ");
    Some(Refusal { kind: FailureKind::DeviceMemory, message, hint })
}

fn sum(capacities: &[DeviceCapacity], of: impl Fn(&DeviceCapacity) -> u64) -> u64 {
    capacities.iter().map(of).fold(0, u64::saturating_add)
}

/// Returns the device memory that a load needs, as far as it is known.
fn needed_bytes(bytes: &PredictedBytes, baseline: Option<u64>) -> u64 {
    let fixed = bytes.weights.saturating_add(bytes.kv_cache);
    match baseline {
        Some(baseline) => fixed.saturating_add(bytes.activations).saturating_add(baseline),
        None => fixed,
    }
}

/// Returns hints on how the load would fit into `free` bytes.
fn alternatives(
    spec: &LoadSpec,
    bytes: &PredictedBytes,
    baseline: Option<u64>,
    free: u64,
) -> Vec<String> {
    let context = spec.context() as usize;
    let needed_in = |scheme| needed_bytes(&spec.bytes_with(scheme, context, true), baseline);
    let needed = needed_bytes(bytes, baseline);
    let mut hints = Vec::new();
    // the blocks of a file are not converted
    match (spec.file_bytes, PROPOSED.iter().find(|scheme| needed_in(**scheme) <= free)) {
        (None, Some(scheme)) => hints.push(format!(
            "set quantization = \"{scheme}\", which needs {}",
            format_bytes(needed_in(*scheme))
        )),
        (None, None) => hints.push(
            "use a smaller model or a shorter context: no quantization fits with this context"
                .into(),
        ),
        (Some(_), _) => hints.push("use a file with fewer bits per weight".into()),
    }
    let shorter = std::iter::successors(Some(context / 2), |context| Some(context / 2))
        .take_while(|context| *context >= MIN_CONTEXT)
        .find(|context| {
            let cache = kv_cache_bytes(&spec.config, *context, true);
            needed.saturating_sub(bytes.kv_cache.saturating_sub(cache)) <= free
        });
    hints.extend(shorter.map(|context| format!("set `context = {context}`")));
    let smaller = smaller_model(spec, bytes).filter(|(_, bytes)| *bytes < free);
    hints.extend(smaller.map(|(hint, _)| hint));
    hints.push(format!("use a GPU with {} free", format_bytes(needed)));
    hints
}

/// Returns a hint that proposes the next smaller model of the family, and the estimated bytes of
/// its weights with the bits per weight of `bytes`. `None` if no smaller model is known.
fn smaller_model(spec: &LoadSpec, bytes: &PredictedBytes) -> Option<(String, u64)> {
    let smaller = spec.smaller()?;
    let share = smaller.parameters as f64 / bytes.parameters as f64;
    let weights = (bytes.weights as f64 * share) as u64;
    let hint = format!(
        "use {} of the same family: {:.1} billion parameters, about {} in {}",
        smaller.repo,
        smaller.parameters as f64 / 1e9,
        format_bytes(weights),
        spec.quantization
    );
    Some((hint, weights))
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::llama_70b;
    use super::*;
    use modelgate_protocol::Device;

    const GB: u64 = 1_000_000_000;

    fn capacity(total: u64) -> DeviceCapacity {
        DeviceCapacity { total: total * GB, others: 0, limit: None, baseline: Some(GB / 2) }
    }

    fn refusal(quantization: &str, capacity: DeviceCapacity) -> Option<Refusal> {
        device_refusal(&llama_70b(quantization), &[capacity])
    }

    #[test]
    fn a_smaller_model_of_the_family_is_proposed_if_it_would_fit() {
        let repo = Some("meta-llama/Llama-3.1-70B-Instruct".to_owned());
        let spec = LoadSpec { repo, ..llama_70b("q4_k") };
        let hint = |total| device_refusal(&spec, &[capacity(total)]).expect("refused").hint;
        assert!(hint(24).contains("meta-llama/Llama-3.1-8B-Instruct"), "{}", hint(24));
        assert!(hint(24).contains("8.0 billion parameters, about 4.5"), "{}", hint(24));
        assert!(!hint(4).contains("8B"), "{}", hint(4));
    }

    #[test]
    fn a_model_that_fits_is_not_refused() {
        assert!(refusal("q4_k", capacity(48)).is_none());
        assert!(refusal("none", capacity(150)).is_none());
        let spec = llama_70b("none");
        let both = LoadSpec { devices: vec![Device::Cuda(0), Device::Cpu], ..spec.clone() };
        assert!(device_refusal(&both, &[capacity(24)]).is_none(), "a part is in host memory");
        let two = LoadSpec { devices: vec![Device::Cuda(0), Device::Cuda(1)], ..spec };
        assert!(device_refusal(&two, &[capacity(80), capacity(80)]).is_none(), "two GPUs together");
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_arithmetic_and_alternatives() {
        let refused = refusal("none", capacity(48)).expect("refused");
        for part in [
            "70,553,706,496 parameters in none take 141 GB",
            "a context of 4096 takes 1.34 GB",
            "500 MB before the first weight",
            "of 48.0 GB, other processes use 0 B: 48.0 GB are available",
        ] {
            assert!(refused.message.contains(part), "expected {part:?} in {}", refused.message);
        }
        assert!(refused.hint.contains("set quantization = \"q4_k\""), "{}", refused.hint);
        assert!(refused.hint.contains("a GPU with 14"), "{}", refused.hint);

        let tiny = refusal("q4_k", capacity(8)).expect("refused");
        assert!(tiny.hint.contains("no quantization fits"), "{}", tiny.hint);
        let file = LoadSpec { file_bytes: Some(39_700_000_000), ..llama_70b("q4_0") };
        let file = device_refusal(&file, &[capacity(40)]).expect("refused");
        assert!(file.message.contains("in q4_0 take 39.7 GB"), "{}", file.message);
        assert!(file.hint.contains("a file with fewer bits per weight"), "{}", file.hint);
    }

    #[test]
    fn memory_of_others_and_a_limit_reduce_the_available_memory() {
        let shared = DeviceCapacity { others: 60 * GB, ..capacity(85) };
        let refused = refusal("q4_k", shared).expect("refused");
        let expected = "of 85.0 GB, other processes use 60.0 GB: 25.0 GB are available";
        assert!(refused.message.contains(expected), "{}", refused.message);
        let limited = DeviceCapacity { limit: Some(20 * GB), ..capacity(150) };
        let refused = refusal("q4_k", limited).expect("refused");
        let expected = "MODELGATE_VRAM_LIMIT allows 20.0 GB of each: 20.0 GB are available";
        assert!(refused.message.contains(expected), "{}", refused.message);
        let high = DeviceCapacity { limit: Some(900 * GB), ..capacity(48) };
        assert!(
            refusal("q4_k", high).is_none(),
            "a limit above the memory of the GPU has no effect"
        );
    }

    #[test]
    fn a_shorter_context_is_proposed_if_the_kv_cache_does_not_fit() {
        let bytes = llama_70b("q4_k").bytes(true);
        let free = bytes.weights + bytes.kv_cache / 2;
        let tight = DeviceCapacity { total: free, others: 0, limit: None, baseline: None };
        let refused = refusal("q4_k", tight).expect("refused");
        assert!(refused.hint.contains("set `context = 2048`"), "{}", refused.hint);
        assert!(!refused.message.contains("before the first weight"), "{}", refused.message);
    }
}

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
    /// The bytes of [`llama_70b`] in q4_k with the KV cache, and with activations and a baseline of
    /// 500 MB.
    const FIXED: u64 = 41_033_170_944;
    const COMPLETE: u64 = 41_879_451_904;

    #[test]
    fn a_load_fits_up_to_the_last_byte() {
        let with =
            |total, others, limit, baseline| DeviceCapacity { total, others, limit, baseline };
        let half = Some(GB / 2);
        let quarter = Some(GB / 4);
        for (capacities, fits) in [
            (vec![], true),
            (vec![with(FIXED - 1, 0, None, None)], false),
            (vec![with(FIXED, 0, None, None)], true),
            (vec![with(COMPLETE - 1, 0, None, half)], false),
            (vec![with(COMPLETE, 0, None, half)], true),
            (vec![with(COMPLETE + 9, 10, None, half)], false),
            (vec![with(COMPLETE + 10, 10, None, half)], true),
            (vec![with(10, 20, None, half)], false),
            (vec![with(80 * GB, 0, Some(COMPLETE - 1), half)], false),
            (vec![with(80 * GB, 0, Some(COMPLETE), half)], true),
            (vec![with(COMPLETE - 1, 0, Some(COMPLETE), half)], false),
            (vec![with(80 * GB, 80 * GB, Some(COMPLETE), half)], false),
            // the memory of two GPUs is added, and so are their baselines
            (vec![with(20 * GB, 0, None, None), with(FIXED - 20 * GB, 0, None, None)], true),
            (vec![with(20 * GB, 0, None, None), with(FIXED - 20 * GB - 1, 0, None, None)], false),
            (
                vec![with(20 * GB, 0, None, quarter), with(COMPLETE - 20 * GB, 0, None, quarter)],
                true,
            ),
            (
                vec![
                    with(20 * GB, 0, None, quarter),
                    with(COMPLETE - 20 * GB - 1, 0, None, quarter),
                ],
                false,
            ),
            // the baseline is not known before both workers have measured it
            (vec![with(20 * GB, 0, None, half), with(FIXED - 20 * GB, 0, None, None)], true),
        ] {
            let refused = device_refusal(&llama_70b("q4_k"), &capacities);
            assert_eq!(refused.is_none(), fits, "{capacities:?}: {refused:?}");
        }
    }

    #[test]
    fn a_refusal_contains_every_part_of_the_arithmetic() {
        let refused = refusal("q4_k", capacity(40)).expect("refused");
        assert_eq!(refused.kind, FailureKind::DeviceMemory);
        assert_eq!(
            refused.message,
            "the model does not fit on the GPU: 70,553,706,496 parameters in q4_k take 39.7 GB, the \
             KV cache for a context of 4096 takes 1.34 GB, the activations take 346 MB, and the \
             worker takes 500 MB before the first weight is loaded: 41.9 GB in total; of 40.0 GB, \
             other processes use 0 B: 40.0 GB are available"
        );
        assert_eq!(
            refused.hint,
            "use a smaller model or a shorter context: no quantization fits with this context; or \
             use a GPU with 41.9 GB free"
        );
        let others = DeviceCapacity { others: GB, limit: Some(15 * GB), ..capacity(20) };
        let refused = device_refusal(&llama_70b("q4_k"), &[others, capacity(20)]).expect("refused");
        assert_eq!(
            refused.message,
            "the model does not fit on 2 GPUs: 70,553,706,496 parameters in q4_k take 39.7 GB, the \
             KV cache for a context of 4096 takes 1.34 GB, the activations take 346 MB, and the \
             worker takes 1.00 GB before the first weight is loaded: 42.4 GB in total; of 40.0 GB, \
             other processes use 1.00 GB, MODELGATE_VRAM_LIMIT allows 15.0 GB of each: 35.0 GB are \
             available"
        );
    }

    /// The first hint on a GPU with this free memory and without a known baseline.
    fn hint(spec: &LoadSpec, free: u64) -> String {
        let room = DeviceCapacity { total: free, others: 0, limit: None, baseline: None };
        device_refusal(spec, &[room]).expect("refused").hint
    }

    #[test]
    fn the_quantization_with_the_most_bits_that_fits_is_proposed() {
        for (free, proposed) in [
            (142_000_000_000, "set quantization = \"q8_0\", which needs 76.3 GB;"),
            (76_309_364_736, "set quantization = \"q8_0\", which needs 76.3 GB;"),
            (76_309_364_735, "set quantization = \"q6_k\", which needs 59.2 GB;"),
            (59_222_458_368, "set quantization = \"q6_k\", which needs 59.2 GB;"),
            (59_222_458_367, "set quantization = \"q5_k\", which needs 49.9 GB;"),
            (49_852_219_392, "set quantization = \"q5_k\", which needs 49.9 GB;"),
            (49_852_219_391, "set quantization = \"q4_k\", which needs 41.0 GB;"),
            (FIXED, "set quantization = \"q4_k\", which needs 41.0 GB;"),
            (FIXED - 1, "use a smaller model or a shorter context: no quantization fits"),
        ] {
            let hint = hint(&llama_70b("none"), free);
            assert!(hint.starts_with(proposed), "{free}: {hint}");
        }
    }

    #[test]
    fn the_longest_context_that_fits_is_proposed() {
        for (free, proposed) in [
            (FIXED - 1, Some("set `context = 2048`")),
            (40_362_082_304, Some("set `context = 2048`")),
            (40_362_082_303, Some("set `context = 1024`")),
            (40_026_537_984, Some("set `context = 1024`")),
            (40_026_537_983, Some("set `context = 512`")),
            (39_858_765_824, Some("set `context = 512`")),
            (39_858_765_823, Some("set `context = 256`")),
            (39_774_879_744, Some("set `context = 256`")),
            (39_774_879_743, None),
            (39_732_936_704, None),
        ] {
            let hint = hint(&llama_70b("q4_k"), free);
            let found = hint.split("; or ").find(|hint| hint.starts_with("set `context"));
            assert_eq!(found, proposed, "{free}");
        }
    }

    #[test]
    fn a_smaller_model_is_proposed_if_its_weights_leave_memory() {
        let repo = Some("meta-llama/Llama-3.1-70B-Instruct".to_owned());
        let spec = LoadSpec { repo, ..llama_70b("q4_k") };
        // the weights of 8.03 billion parameters in 4.5 bits
        assert!(!hint(&spec, 4_517_391_004).contains("of the same family"));
        assert!(!hint(&spec, 4_517_391_005).contains("of the same family"));
        assert!(hint(&spec, 4_517_391_006).contains(
            "use meta-llama/Llama-3.1-8B-Instruct of the same family: 8.0 billion parameters, \
             about 4.52 GB in q4_k"
        ));
    }

    #[test]
    fn the_size_of_a_file_replaces_the_prediction_of_a_mix() {
        let spec = LoadSpec { file_bytes: Some(43 * GB), ..llama_70b("q4_k_m") };
        let cache = 1_342_177_280;
        let refused = |free| {
            let room = DeviceCapacity { total: free, others: 0, limit: None, baseline: None };
            device_refusal(&spec, &[room])
        };
        assert_eq!(refused(43 * GB + cache), None);
        let refusal = refused(43 * GB + cache - 1).expect("refused");
        assert!(refusal.message.contains("in q4_k_m take 43.0 GB"), "{}", refusal.message);
        assert!(
            refusal.hint.starts_with("use a file with fewer bits per weight; or"),
            "{}",
            refusal.hint
        );
        let exact = LoadSpec { file_bytes: Some(43 * GB), ..llama_70b("q4_k") };
        assert_eq!(exact.bytes(true).weights, 39_690_993_664, "one type: the shapes are exact");
    }
}

//! Whether a load fits on its GPUs.

use super::refusal::Refusal;
use super::spec::LoadSpec;
use crate::settings::variables::VRAM_LIMIT;
use modelgate_model::units::{format_bytes, grouped};
use modelgate_model::{PredictedBytes, kv_cache_bytes};
use modelgate_protocol::{FailureKind, Scheme};

/// Schemes that are proposed if a model is too large, most bits first.
const PROPOSED: [Scheme; 6] =
    [Scheme::None, Scheme::Q8_0, Scheme::Q6K, Scheme::Q5K, Scheme::Q4K, Scheme::Q4_0];

/// The shortest context that is proposed.
const MIN_CONTEXT: usize = 256;

/// The memory of one GPU, and what of it is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The GPU's memory.
    pub total: u64,
    /// Bytes in use by other processes.
    pub others: u64,
    /// Bytes that a worker may take, if they are limited.
    pub limit: Option<u64>,
    /// Bytes that the worker takes before the first weight; `None` before it has measured them.
    pub baseline: Option<u64>,
}

impl Room {
    /// Returns the bytes that a worker can take.
    fn free(&self) -> u64 {
        self.total.saturating_sub(self.others).min(self.limit.unwrap_or(u64::MAX))
    }
}

/// Refuses a load that is larger than the GPUs `rooms` together. Before the workers' baselines are
/// known, weights and KV cache alone have to fit; then the complete predicted peak. A model that may
/// live in host memory too always fits here.
pub fn too_large(spec: &LoadSpec, rooms: &[Room]) -> Option<Refusal> {
    if rooms.is_empty() || spec.uses_host() {
        return None;
    }
    let free = sum(rooms, Room::free);
    let baseline = rooms.iter().map(|room| room.baseline).sum::<Option<u64>>();
    let bytes = spec.bytes(true);
    let needs = needed(&bytes, baseline);
    if needs <= free {
        return None;
    }
    let on_top = baseline.map_or(String::new(), |baseline| {
        format!(
            ", {} of activations and {} before the first weight",
            format_bytes(bytes.activations),
            format_bytes(baseline)
        )
    });
    let limit = rooms.iter().find_map(|room| room.limit).map(format_bytes);
    let limited =
        limit.map_or(String::new(), |limit| format!(", {VRAM_LIMIT} allows {limit} of each"));
    let gpus = if rooms.len() == 1 { "the GPU".into() } else { format!("{} GPUs", rooms.len()) };
    let message = format!(
        "the model does not fit on {gpus}: {} parameters in {} take {}, the KV cache for a \
         context of {} {}{on_top}: {} in total; of {}, other processes use {}{limited}: {} are \
         available",
        grouped(bytes.parameters),
        spec.quantization,
        format_bytes(bytes.weights),
        spec.context(),
        format_bytes(bytes.kv_cache),
        format_bytes(needs),
        format_bytes(sum(rooms, |room| room.total)),
        format_bytes(sum(rooms, |room| room.others)),
        format_bytes(free),
    );
    let hint = alternatives(spec, &bytes, baseline, free).join("; ");
    Some(Refusal { kind: FailureKind::DeviceMemory, message, hint })
}

fn sum(rooms: &[Room], of: impl Fn(&Room) -> u64) -> u64 {
    rooms.iter().map(of).fold(0, u64::saturating_add)
}

/// Returns the device memory that a load takes, as far as it is known.
fn needed(bytes: &PredictedBytes, baseline: Option<u64>) -> u64 {
    let fixed = bytes.weights.saturating_add(bytes.kv_cache);
    match baseline {
        Some(baseline) => fixed.saturating_add(bytes.activations).saturating_add(baseline),
        None => fixed,
    }
}

/// Returns what would fit in `free` bytes instead.
fn alternatives(
    spec: &LoadSpec,
    bytes: &PredictedBytes,
    baseline: Option<u64>,
    free: u64,
) -> Vec<String> {
    let context = spec.context() as usize;
    let with = |scheme| needed(&spec.bytes_with(scheme, context, true), baseline);
    let needs = needed(bytes, baseline);
    let mut ways = Vec::new();
    // the blocks of a file stay as they are
    match (spec.file_bytes, PROPOSED.iter().find(|scheme| with(**scheme) <= free)) {
        (None, Some(scheme)) => ways.push(format!(
            "quantization = \"{scheme}\" would fit ({})",
            format_bytes(with(*scheme))
        )),
        (None, None) => ways.push("no quantization would fit with this context".into()),
        (Some(_), _) => ways.push("a file of fewer bits".into()),
    }
    let shorter = std::iter::successors(Some(context / 2), |context| Some(context / 2))
        .take_while(|context| *context >= MIN_CONTEXT)
        .find(|context| {
            let cache = kv_cache_bytes(&spec.config, *context, true);
            needs.saturating_sub(bytes.kv_cache.saturating_sub(cache)) <= free
        });
    ways.extend(shorter.map(|context| format!("context = {context} would fit")));
    let smaller = smaller(spec, bytes).filter(|(_, bytes)| *bytes < free);
    ways.extend(smaller.map(|(way, _)| way));
    ways.push(format!("a GPU with {} free", format_bytes(needs)));
    ways
}

/// Returns the next smaller model of the family, if it is known, and about what its weights take: as
/// many bits each as `bytes` has for this one.
fn smaller(spec: &LoadSpec, bytes: &PredictedBytes) -> Option<(String, u64)> {
    let smaller = spec.smaller()?;
    let share = smaller.parameters as f64 / bytes.parameters as f64;
    let weights = (bytes.weights as f64 * share) as u64;
    let way = format!(
        "{} of the same family has {:.1} billion parameters, about {} in {}",
        smaller.repo,
        smaller.parameters as f64 / 1e9,
        format_bytes(weights),
        spec.quantization
    );
    Some((way, weights))
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::llama_70b;
    use super::*;
    use modelgate_protocol::Device;

    const GB: u64 = 1_000_000_000;

    fn room(total: u64) -> Room {
        Room { total: total * GB, others: 0, limit: None, baseline: Some(GB / 2) }
    }

    fn refusal(quantization: &str, room: Room) -> Option<Refusal> {
        too_large(&llama_70b(quantization), &[room])
    }

    #[test]
    fn a_smaller_model_of_the_family_is_proposed_if_it_would_fit() {
        let repo = Some("meta-llama/Llama-3.1-70B-Instruct".to_owned());
        let spec = LoadSpec { repo, ..llama_70b("q4_k") };
        let hint = |total| too_large(&spec, &[room(total)]).expect("refused").hint;
        assert!(hint(24).contains("meta-llama/Llama-3.1-8B-Instruct"), "{}", hint(24));
        assert!(hint(24).contains("8.0 billion parameters, about 4.5"), "{}", hint(24));
        assert!(!hint(4).contains("8B"), "{}", hint(4));
    }

    #[test]
    fn a_model_that_fits_is_not_refused() {
        assert!(refusal("q4_k", room(48)).is_none());
        assert!(refusal("none", room(150)).is_none());
        let spec = llama_70b("none");
        let both = LoadSpec { devices: vec![Device::Cuda(0), Device::Cpu], ..spec.clone() };
        assert!(too_large(&both, &[room(24)]).is_none(), "host memory takes the rest");
        let two = LoadSpec { devices: vec![Device::Cuda(0), Device::Cuda(1)], ..spec };
        assert!(too_large(&two, &[room(80), room(80)]).is_none(), "two GPUs together");
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_the_arithmetic_and_what_would_fit() {
        let refused = refusal("none", room(48)).expect("refused");
        for part in [
            "70,553,706,496 parameters in none take 141 GB",
            "a context of 4096 1.34 GB",
            "500 MB before the first weight",
            "of 48.0 GB, other processes use 0 B: 48.0 GB are available",
        ] {
            assert!(refused.message.contains(part), "expected {part:?} in {}", refused.message);
        }
        assert!(refused.hint.contains("quantization = \"q4_k\" would fit"), "{}", refused.hint);
        assert!(refused.hint.contains("a GPU with 14"), "{}", refused.hint);

        let tiny = refusal("q4_k", room(8)).expect("refused");
        assert!(tiny.hint.contains("no quantization would fit"), "{}", tiny.hint);
        let file = LoadSpec { file_bytes: Some(39_700_000_000), ..llama_70b("q4_0") };
        let file = too_large(&file, &[room(40)]).expect("refused");
        assert!(file.message.contains("in q4_0 take 39.7 GB"), "{}", file.message);
        assert!(file.hint.contains("a file of fewer bits"), "{}", file.hint);
    }

    #[test]
    fn what_others_use_and_a_limit_make_a_gpu_smaller() {
        let shared = Room { others: 60 * GB, ..room(85) };
        let refused = refusal("q4_k", shared).expect("refused");
        let says = "of 85.0 GB, other processes use 60.0 GB: 25.0 GB are available";
        assert!(refused.message.contains(says), "{}", refused.message);
        let limited = Room { limit: Some(20 * GB), ..room(150) };
        let refused = refusal("q4_k", limited).expect("refused");
        let says = "MODELGATE_VRAM_LIMIT allows 20.0 GB of each: 20.0 GB are available";
        assert!(refused.message.contains(says), "{}", refused.message);
        let high = Room { limit: Some(900 * GB), ..room(48) };
        assert!(refusal("q4_k", high).is_none(), "a limit above the memory is no limit");
    }

    #[test]
    fn a_shorter_context_is_proposed_if_the_kv_cache_is_what_does_not_fit() {
        let bytes = llama_70b("q4_k").bytes(true);
        let free = bytes.weights + bytes.kv_cache / 2;
        let tight = Room { total: free, others: 0, limit: None, baseline: None };
        let refused = refusal("q4_k", tight).expect("refused");
        assert!(refused.hint.contains("context = 2048 would fit"), "{}", refused.hint);
        assert!(!refused.message.contains("before the first weight"), "{}", refused.message);
    }
}

//! Ranges of memory that a load is expected to stay in, and whether any load could.

use super::refusal::Refusal;
use super::spec::LoadSpec;
use modelgate_model::units::{format_bytes, grouped};
use modelgate_protocol::FailureKind;
use serde::{Deserialize, Serialize};

/// Bytes from `min` to `max`, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteRange {
    /// At least.
    pub min: u64,
    /// At most; `u64::MAX` if there is no bound.
    pub max: u64,
}

impl ByteRange {
    /// Returns whether `bytes` is in the range.
    pub fn contains(self, bytes: u64) -> bool {
        (self.min..=self.max).contains(&bytes)
    }
}

impl std::fmt::Display for ByteRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.min, self.max) {
            (0, max) => write!(f, "at most {}", format_bytes(max)),
            (min, u64::MAX) => write!(f, "at least {}", format_bytes(min)),
            (min, max) => write!(f, "{} to {}", format_bytes(min), format_bytes(max)),
        }
    }
}

/// The ranges that a load is expected to stay in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryBounds {
    /// Peak device memory, summed over devices.
    pub vram: Option<ByteRange>,
    /// Peak private host memory of the worker.
    pub ram: Option<ByteRange>,
}

/// Refuses ranges that leave no room for the weights and the KV cache.
///
/// Weights on several devices, or on GPU and host together, count against the sum of both ranges.
pub fn impossible(spec: &LoadSpec, bounds: MemoryBounds) -> Option<Refusal> {
    let on_gpu = spec.uses_gpu();
    let bytes = spec.bytes(on_gpu);
    let needed = bytes.weights.saturating_add(bytes.kv_cache);
    let most = |range: Option<ByteRange>| range.map_or(u64::MAX, |range| range.max);
    let (name, room) = match (on_gpu, spec.uses_host()) {
        (true, false) => ("expect.vram", most(bounds.vram)),
        (false, _) => ("expect.ram", most(bounds.ram)),
        (true, true) => (
            "expect.vram and expect.ram together",
            most(bounds.vram).saturating_add(most(bounds.ram)),
        ),
    };
    (needed > room).then(|| Refusal {
        kind: FailureKind::Impossible,
        message: format!(
            "{name} allows at most {}, which no load of this model can meet: {} parameters in {} \
             take {} ({:.2} bits per weight), and the KV cache for a context of {} takes {}: {} \
             in total",
            format_bytes(room),
            grouped(bytes.parameters),
            spec.quantization,
            format_bytes(bytes.weights),
            bytes.weights as f64 * 8.0 / bytes.parameters as f64,
            spec.context(),
            format_bytes(bytes.kv_cache),
            format_bytes(needed),
        ),
        hint: format!(
            "allow at least {}, or use fewer bits or a shorter context",
            format_bytes(needed)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::llama_70b;
    use super::*;

    /// The engine uses only the first device of a list.
    #[test]
    fn the_hint_proposes_nothing_that_the_engine_cannot_do() {
        let vram = Some(ByteRange { min: 0, max: 1_000_000_000 });
        let refused = impossible(&llama_70b("q4_k"), MemoryBounds { vram, ram: None });
        let hint = refused.expect("refused").hint;
        assert!(hint.starts_with("allow at least 41") && !hint.contains("device"), "{hint}");
    }
}

//! Memory ranges of a load, and whether any load can stay within them.

use super::refusal::Refusal;
use super::spec::LoadSpec;
use modelgate_model::units::{format_bytes, grouped};
use modelgate_protocol::FailureKind;
use serde::{Deserialize, Serialize};

/// A range of bytes from `min` to `max`, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteRange {
    /// The minimum; 0 if there is none.
    pub min: u64,
    /// The maximum; `u64::MAX` if there is none.
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

/// The expected memory ranges of a load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryBounds {
    /// The range of peak device memory, as a sum over devices. `None` without an expectation.
    pub vram: Option<ByteRange>,
    /// The range of peak private host memory of the worker. `None` without an expectation.
    pub ram: Option<ByteRange>,
}

/// Returns a refusal of ranges that are too small for the weights and the KV cache. `None` if both
/// fit.
///
/// For weights on several devices, or on GPU and host, the sum of both ranges counts.
pub fn bounds_refusal(spec: &LoadSpec, bounds: MemoryBounds) -> Option<Refusal> {
    let on_gpu = spec.uses_gpu();
    let bytes = spec.bytes(on_gpu);
    let needed = bytes.weights.saturating_add(bytes.kv_cache);
    let max_of = |range: Option<ByteRange>| range.map_or(u64::MAX, |range| range.max);
    let (name, allowed) = match (on_gpu, spec.uses_host()) {
        (true, false) => ("expect.vram", max_of(bounds.vram)),
        (false, _) => ("expect.ram", max_of(bounds.ram)),
        (true, true) => (
            "expect.vram and expect.ram together",
            max_of(bounds.vram).saturating_add(max_of(bounds.ram)),
        ),
    };
    (needed > allowed).then(|| Refusal {
        kind: FailureKind::ExpectationUnreachable,
        message: format!(
            "{name} allows at most {}, but this model needs at least {}: {} parameters in {} take \
             {} ({:.2} bits per weight), and the KV cache for a context of {} takes {}",
            format_bytes(allowed),
            format_bytes(needed),
            grouped(bytes.parameters),
            spec.quantization,
            format_bytes(bytes.weights),
            bytes.weights as f64 * 8.0 / bytes.parameters as f64,
            spec.context(),
            format_bytes(bytes.kv_cache),
        ),
        hint: format!(
            "allow at least {}; or use fewer bits; or use a shorter context",
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
    fn the_hint_proposes_only_what_the_engine_supports() {
        let vram = Some(ByteRange { min: 0, max: 1_000_000_000 });
        let refused = bounds_refusal(&llama_70b("q4_k"), MemoryBounds { vram, ram: None });
        let hint = refused.expect("refused").hint;
        assert!(hint.starts_with("allow at least 41") && !hint.contains("device"), "{hint}");
    }
}

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
    use modelgate_protocol::Device;

    /// The engine uses only the first device of a list.
    #[test]
    fn the_hint_proposes_only_what_the_engine_supports() {
        let vram = Some(ByteRange { min: 0, max: 1_000_000_000 });
        let refused = bounds_refusal(&llama_70b("q4_k"), MemoryBounds { vram, ram: None });
        let hint = refused.expect("refused").hint;
        assert!(hint.starts_with("allow at least 41") && !hint.contains("device"), "{hint}");
    }
    /// The weights and the KV cache of [`llama_70b`] in q4_k, on a GPU and on the CPU.
    const ON_GPU: u64 = 41_033_170_944;
    const ON_CPU: u64 = 42_375_348_224;

    fn at_most(max: u64) -> Option<ByteRange> {
        Some(ByteRange { min: 0, max })
    }

    #[test]
    fn both_ends_of_a_range_belong_to_it() {
        let range = ByteRange { min: 5, max: 7 };
        for (bytes, contained) in
            [(0, false), (4, false), (5, true), (6, true), (7, true), (8, false), (u64::MAX, false)]
        {
            assert_eq!(range.contains(bytes), contained, "{bytes}");
        }
        assert!(ByteRange { min: 5, max: 5 }.contains(5));
    }

    #[test]
    fn a_range_is_displayed_with_its_given_ends() {
        let text = |min, max| ByteRange { min, max }.to_string();
        assert_eq!(text(0, 3_000), "at most 3.00 kB");
        assert_eq!(text(2_000, u64::MAX), "at least 2.00 kB");
        assert_eq!(text(2_000, 3_000), "2.00 kB to 3.00 kB");
    }

    #[test]
    fn weights_and_cache_must_fit_into_the_range_of_their_device() {
        let (gpu, cpu) = (Device::Cuda(0), Device::Cpu);
        for (devices, vram, ram, refused) in [
            (&[gpu][..], None, None, None),
            (&[gpu], at_most(ON_GPU + 1), None, None),
            (&[gpu], at_most(ON_GPU), at_most(1), None),
            (&[gpu], at_most(ON_GPU - 1), None, Some("expect.vram allows")),
            (&[cpu], None, None, None),
            (&[cpu], at_most(1), at_most(ON_CPU + 1), None),
            (&[cpu], None, at_most(ON_CPU), None),
            (&[cpu], None, at_most(ON_CPU - 1), Some("expect.ram allows")),
            // a part may be in host memory
            (&[gpu, cpu], at_most(1), None, None),
            (&[gpu, cpu], None, at_most(1), None),
            (&[gpu, cpu], at_most(ON_GPU - 5), at_most(5), None),
            (
                &[gpu, cpu],
                at_most(ON_GPU - 5),
                at_most(4),
                Some("expect.vram and expect.ram together allows"),
            ),
        ] {
            let spec = LoadSpec { devices: devices.to_vec(), ..llama_70b("q4_k") };
            let refusal = bounds_refusal(&spec, MemoryBounds { vram, ram });
            let message = refusal.map(|refusal| refusal.message);
            let place = format!("{devices:?} {vram:?} {ram:?}");
            match (&message, refused) {
                (Some(message), Some(start)) => {
                    assert!(message.starts_with(start), "{place}: {message}");
                }
                other => assert_eq!(other, (&None, None), "{place}"),
            }
        }
    }

    #[test]
    fn a_refusal_contains_the_arithmetic() {
        let bounds = MemoryBounds { vram: at_most(40_000_000_000), ram: None };
        let refused = bounds_refusal(&llama_70b("q4_k"), bounds).expect("refused");
        assert_eq!(refused.kind, FailureKind::ExpectationUnreachable);
        assert_eq!(
            refused.message,
            "expect.vram allows at most 40.0 GB, but this model needs at least 41.0 GB: \
             70,553,706,496 parameters in q4_k take 39.7 GB (4.50 bits per weight), and the KV \
             cache for a context of 4096 takes 1.34 GB"
        );
        assert_eq!(
            refused.hint,
            "allow at least 41.0 GB; or use fewer bits; or use a shorter context"
        );
    }
}

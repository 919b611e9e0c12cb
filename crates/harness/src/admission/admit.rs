//! Decides whether a load may start or continue.

use super::bounds::{MemoryBounds, bounds_refusal};
use super::device_capacity::{DeviceCapacity, device_refusal};
use super::host_room::host_refusal;
use super::predict::predict;
use super::refusal::Refusal;
use super::spec::LoadSpec;
use modelgate_model::parameters;
use modelgate_model::units::grouped;
use modelgate_protocol::FailureKind;

/// The number of parameters above which a build without optimization would take hours.
const MAX_DEBUG_BUILD_PARAMETERS: u64 = 1_000_000_000;

/// The limits for a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The memory ranges of the manifest.
    pub bounds: MemoryBounds,
    /// The host memory in bytes to which the host can grow; 0 if unknown.
    pub host_memory: u64,
    /// Whether the worker is built without optimisation.
    pub debug_build: bool,
}

impl Admission {
    /// Admits a load on GPUs with the memory `capacities`, or refuses it. It is called again when more
    /// is known: the shapes of the model, then the baseline of the worker on its GPUs.
    ///
    /// # Errors
    /// The first reason against the load.
    pub fn admit(&self, spec: &LoadSpec, capacities: &[DeviceCapacity]) -> Result<(), Refusal> {
        let refusal = debug_build_refusal(parameters(&spec.config), self.debug_build)
            .or_else(|| bounds_refusal(spec, self.bounds))
            .or_else(|| host_refusal(spec, &predict(spec), self.host_memory))
            .or_else(|| device_refusal(spec, capacities));
        refusal.map_or(Ok(()), Err)
    }
}

fn debug_build_refusal(parameters: u64, debug_build: bool) -> Option<Refusal> {
    (debug_build && parameters > MAX_DEBUG_BUILD_PARAMETERS).then(|| Refusal {
        kind: FailureKind::DebugBuild,
        message: format!(
            "the build is not optimised: the model has {} parameters, expected at most {}",
            grouped(parameters),
            grouped(MAX_DEBUG_BUILD_PARAMETERS)
        ),
        hint: "run `cargo test --release`".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::llama_70b;
    use super::*;
    use crate::embedded::known;

    #[test]
    fn an_unoptimised_build_refuses_the_primary_models() {
        for repo in known::repositories() {
            let config = known::config(repo).expect("embedded").expect("a valid config");
            let parameters = parameters(&config);
            let refusal = debug_build_refusal(parameters, true).expect("refused");
            assert_eq!(refusal.kind, FailureKind::DebugBuild);
            assert!(refusal.hint.contains("--release"), "{refusal:?}");
            assert_eq!(debug_build_refusal(parameters, false), None);
        }
        assert_eq!(debug_build_refusal(2_623_744, true), None);
    }

    #[test]
    fn the_first_reason_against_a_load_is_returned() {
        let spec = llama_70b("q4_k");
        let room = DeviceCapacity { total: 8_000_000_000, others: 0, limit: None, baseline: None };
        let large_host = Admission {
            bounds: MemoryBounds::default(),
            host_memory: 64_000_000_000,
            debug_build: false,
        };
        assert_eq!(large_host.admit(&spec, &[]), Ok(()));
        let kind =
            |admission: &Admission| admission.admit(&spec, &[room]).expect_err("refused").kind;
        assert_eq!(kind(&large_host), FailureKind::DeviceMemory);
        let small_host = Admission { host_memory: 1_000, ..large_host.clone() };
        assert_eq!(kind(&small_host), FailureKind::HostMemory);
        let vram = Some(super::super::ByteRange { min: 0, max: 1_000 });
        let bounds = MemoryBounds { vram, ram: None };
        assert_eq!(
            kind(&Admission { bounds, ..small_host.clone() }),
            FailureKind::ExpectationUnreachable
        );
        let debug_build = Admission { debug_build: true, ..small_host };
        assert_eq!(kind(&debug_build), FailureKind::DebugBuild);
    }
    #[test]
    fn the_limit_of_an_unoptimised_build_is_inclusive() {
        assert_eq!(debug_build_refusal(1_000_000_000, true), None);
        let refusal = debug_build_refusal(1_000_000_001, true).expect("refused");
        assert_eq!(
            refusal.message,
            "the build is not optimised: the model has 1,000,000,001 parameters, expected at most \
             1,000,000,000"
        );
        assert_eq!(debug_build_refusal(u64::MAX, false), None);
    }
}

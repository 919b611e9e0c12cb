//! The one question: may this load begin, or go on?

use super::bounds::{MemoryBounds, impossible};
use super::device_room::{Room, too_large};
use super::host_room::beyond_host;
use super::predict::predict;
use super::refusal::Refusal;
use super::spec::LoadSpec;
use modelgate_model::parameters;
use modelgate_model::units::grouped;
use modelgate_protocol::FailureKind;

/// Parameters above which an unoptimised build would take hours.
const MAX_UNOPTIMISED_PARAMETERS: u64 = 1_000_000_000;

/// What a load is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The ranges that the manifest gives.
    pub bounds: MemoryBounds,
    /// The host's memory; 0 if it is not known.
    pub host_memory: u64,
    /// Whether the worker is built without optimisation.
    pub unoptimised: bool,
}

impl Admission {
    /// Admits a load on GPUs of which `rooms` is known, or refuses it. Asked again as more is known: the
    /// model's shapes, then what the worker takes of its GPUs.
    ///
    /// # Errors
    /// The first reason against the load.
    pub fn admit(&self, spec: &LoadSpec, rooms: &[Room]) -> Result<(), Refusal> {
        let refusal = unoptimised(parameters(&spec.config), self.unoptimised)
            .or_else(|| impossible(spec, self.bounds))
            .or_else(|| beyond_host(spec, &predict(spec), self.host_memory))
            .or_else(|| too_large(spec, rooms));
        refusal.map_or(Ok(()), Err)
    }
}

fn unoptimised(parameters: u64, unoptimised: bool) -> Option<Refusal> {
    (unoptimised && parameters > MAX_UNOPTIMISED_PARAMETERS).then(|| Refusal {
        kind: FailureKind::Unoptimised,
        message: format!(
            "this is an unoptimised build, and the model has {} parameters",
            grouped(parameters)
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
            let config = known::config(repo).expect("embedded").expect("sound");
            let parameters = parameters(&config);
            let refusal = unoptimised(parameters, true).expect("refused");
            assert_eq!(refusal.kind, FailureKind::Unoptimised);
            assert!(refusal.hint.contains("--release"), "{refusal:?}");
            assert_eq!(unoptimised(parameters, false), None);
        }
        assert_eq!(unoptimised(2_623_744, true), None);
    }

    #[test]
    fn the_first_reason_against_a_load_is_given() {
        let spec = llama_70b("q4_k");
        let room = Room { total: 8_000_000_000, others: 0, limit: None, baseline: None };
        let sound = Admission {
            bounds: MemoryBounds::default(),
            host_memory: 64_000_000_000,
            unoptimised: false,
        };
        assert_eq!(sound.admit(&spec, &[]), Ok(()));
        let kind =
            |admission: &Admission| admission.admit(&spec, &[room]).expect_err("refused").kind;
        assert_eq!(kind(&sound), FailureKind::DeviceMemory);
        let small_host = Admission { host_memory: 1_000, ..sound.clone() };
        assert_eq!(kind(&small_host), FailureKind::HostMemory);
        let vram = Some(super::super::ByteRange { min: 0, max: 1_000 });
        let bounds = MemoryBounds { vram, ram: None };
        assert_eq!(kind(&Admission { bounds, ..small_host.clone() }), FailureKind::Impossible);
        let unoptimised = Admission { unoptimised: true, ..small_host };
        assert_eq!(kind(&unoptimised), FailureKind::Unoptimised);
    }
}

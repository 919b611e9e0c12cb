//! `load`: every tensor that the architecture needs is resident, whole, and holds numbers.

use super::{Status, Verdict, without_evidence};
use crate::predict::grouped;
use modelgate_protocol::{FailureKind, Measurement, Tensor};

const EXPECTED: &str =
    "every tensor of the architecture resident, none left over, all values finite";

/// What the measurement says of the load.
///
/// That each needed tensor is there with its shape and none is left over is the engine's to
/// enforce against the config, and a failure of it arrives here; what arrives as loaded is checked
/// against itself: the weights counted, the bytes there, no value that is not a number.
pub(super) fn check(measurement: &Measurement) -> Verdict {
    if measurement.load_s.is_none() {
        let verdict = without_evidence(measurement, EXPECTED.into(), true);
        // an expectation that nothing could meet is the memory check's subject, not the load's
        let other = measurement.failure.as_ref().is_some_and(|f| f.kind == FailureKind::Impossible);
        return Verdict { status: if other { Status::Blocked } else { Status::Failed }, ..verdict };
    }
    let tensors = &measurement.tensors;
    let weights: u64 = tensors.list.iter().map(Tensor::elements).fold(0, u64::saturating_add);
    let bytes: u64 = tensors.list.iter().map(|tensor| tensor.bytes).sum();
    let mut observed = format!(
        "{} tensors, {} parameters, {}",
        tensors.list.len(),
        grouped(weights),
        crate::manifest::format_bytes(bytes)
    );
    for omitted in &tensors.omitted {
        observed.push_str(&format!("; left out: {} {}", omitted.tensors, omitted.group));
    }
    let verdict = Verdict::passed(EXPECTED, observed, false);
    if let Some(broken) = tensors.list.iter().find(|tensor| tensor.nonfinite > 0) {
        return verdict.failed(
            format!(
                "tensor {} of {} holds {} values that are NaN or infinite",
                broken.name, broken.file, broken.nonfinite
            ),
            "the file is damaged or the training diverged: fetch it again, and compare its hash",
        );
    }
    if let Some(empty) = tensors.list.iter().find(|tensor| tensor.bytes == 0) {
        return verdict.failed(
            format!("tensor {} of {} takes no bytes", empty.name, empty.file),
            "the worker reports a tensor as resident that is not: a defect of the engine",
        );
    }
    match measurement.parameters {
        Some(parameters) if parameters == weights && weights > 0 => verdict,
        parameters => verdict.failed(
            format!(
                "the resident tensors hold {} weights, the model has {}",
                grouped(weights),
                parameters.map_or("an unknown number".into(), grouped)
            ),
            "the worker did not report every tensor: a defect of the engine",
        ),
    }
}

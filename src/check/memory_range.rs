//! `memory_range`: the peaks of device memory and of private host memory are as planned.

use super::{Expectation, Given, Verdict, without_evidence};
use crate::manifest::{ByteRange, format_bytes};
use modelgate_protocol::{FailureKind, Measurement, Outcome, Prediction, Stage};

/// Holds both peaks against their ranges.
///
/// A measurement that did not come to its end blocks the check: the peak may have been ahead.
pub(super) fn check(measurement: &Measurement, expectation: &Expectation) -> Verdict {
    let prediction = measurement.memory.prediction.as_ref();
    let vram = expectation.vram_range(prediction);
    let ram = expectation.ram_range(prediction);
    let on_device = !measurement.memory.devices.is_empty()
        || prediction.is_some_and(|prediction| prediction.device_peak > 0);
    let vram = vram.filter(|range| on_device || !range.derived);
    let expected = [("VRAM", vram), ("RAM", ram)]
        .into_iter()
        .filter_map(|(name, range)| range.map(|range| format!("{name} {}", range.value)))
        .collect::<Vec<_>>()
        .join(", ");
    let host = measurement.memory.host.as_ref();
    let (Outcome::Measured, Some(host)) = (measurement.outcome, host) else {
        // a worker that does not end well has not given its memory back
        let subject = measurement.failure.as_ref().is_some_and(|failure| {
            failure.kind == FailureKind::Impossible || failure.stage == Stage::Unload
        });
        return without_evidence(measurement, expected, subject);
    };
    let device_peak =
        measurement.memory.devices.iter().fold(0u64, |sum, device| sum.saturating_add(device.peak));
    let mut observed = format!("RAM {}", format_bytes(host.peak_private));
    if on_device {
        observed = format!("VRAM {}, {observed}", format_bytes(device_peak));
    }
    let derived = [vram, ram].iter().flatten().all(|range| range.derived);
    let verdict = Verdict::passed(expected, observed, derived);
    if vram.is_none() && ram.is_none() {
        return verdict.failed(
            "nothing says what memory this model should take: its shapes are not known and the \
             manifest gives no range",
            "give expect.ram or expect.vram in the manifest",
        );
    }
    if vram.is_some() && measurement.memory.devices.is_empty() {
        return verdict.failed(
            format!(
                "device memory is expected and none was measured; the model lived on {}",
                measurement.devices.join(", ")
            ),
            "set `device` to the GPU that is meant, or take expect.vram out",
        );
    }
    let outside = [("VRAM", vram, device_peak), ("RAM", ram, host.peak_private)]
        .into_iter()
        .find_map(|(name, range, peak)| outside(name, range?, peak, prediction));
    match outside {
        None => verdict,
        Some(message) => verdict.failed(
            message,
            "the report's memory section holds the timeline and the prediction's parts; mend the \
             range with expect.vram or expect.ram where the peak is right for this host",
        ),
    }
}

/// What is wrong where `peak` is not in `range`.
fn outside(
    name: &str,
    range: Given<ByteRange>,
    peak: u64,
    prediction: Option<&Prediction>,
) -> Option<String> {
    if range.value.contains(peak) {
        return None;
    }
    let side = if peak > range.value.max { "above" } else { "below" };
    let mut message = format!("peak {name} is {}, {side} {}", format_bytes(peak), range.value);
    if let Some(prediction) = prediction {
        message.push_str(&format!(
            "; predicted were {} of weights, {} of key/value cache, {} of activations and {} for \
             the process",
            format_bytes(prediction.weights),
            format_bytes(prediction.kv_cache),
            format_bytes(prediction.activations),
            format_bytes(prediction.baseline),
        ));
    }
    Some(message)
}

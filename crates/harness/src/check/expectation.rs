//! The values with which checks compare a measurement.

use super::fixed_run::FixedRun;
use crate::admission::{ByteRange, MemoryBounds, Prediction};
use modelgate_protocol::Scheme;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The fraction of a prediction by which a derived memory range extends up and down.
const DERIVED_MARGIN: f64 = 0.05;
/// The minimum number of bytes by which a derived memory range extends up and down, because the
/// memory of a process varies by this amount between hosts.
const MIN_DERIVED_MARGIN: u64 = 100_000_000;

/// An expected value, with its origin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ExpectedValue<T> {
    /// The value.
    pub value: T,
    /// Whether it was derived and not given in the manifest.
    pub derived: bool,
}

impl<T> ExpectedValue<T> {
    /// Returns the given value, otherwise the derived value `otherwise`.
    pub fn or(given: Option<T>, otherwise: T) -> ExpectedValue<T> {
        match given {
            Some(value) => ExpectedValue { value, derived: false },
            None => ExpectedValue { value: otherwise, derived: true },
        }
    }
}

/// The expectation of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// The requested quantization.
    pub quantization: Scheme,
    /// Whether the weights are made in place, so that no source file can determine their types.
    pub in_place: bool,
    /// The request of a synthetic model. `None` if the answers to questions are judged.
    pub fixed_run: Option<FixedRun>,
    /// The maximum time from the spawn until the model is loaded.
    pub load_cached: ExpectedValue<Duration>,
    /// The maximum time to load, including the download, if files were downloaded.
    pub load_first: ExpectedValue<Duration>,
    /// The limits of peak memory. If `None`, they are derived from the prediction of the
    /// measurement.
    pub memory: MemoryBounds,
    /// The maximum perplexity.
    pub perplexity: ExpectedValue<f64>,
    /// The SHA-256 of the perplexity text, in hexadecimal.
    pub text_sha256: String,
    /// The length of the perplexity text in bytes.
    pub text_bytes: u64,
    /// The accepted answers, in the order of the questions.
    pub answers: Vec<Answer>,
    /// Whether the questions are the built-in ones.
    pub answers_derived: bool,
}

/// The accepted answers to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The name of the question.
    pub name: String,
    /// The answer must contain one of these texts.
    pub any_of: Vec<String>,
}

impl Expectation {
    /// Returns the range of peak device memory. `None` if neither manifest nor prediction gives
    /// one.
    pub fn vram_range(&self, prediction: Option<&Prediction>) -> Option<ExpectedValue<ByteRange>> {
        given_or_derived(self.memory.vram, prediction.map(|p| (p.device_peak, 0)))
    }

    /// Returns the range of peak private host memory. `None` if neither manifest nor prediction
    /// gives one. Buffers of threads extend a derived range only upwards, because not every thread
    /// uses its buffers.
    pub fn ram_range(&self, prediction: Option<&Prediction>) -> Option<ExpectedValue<ByteRange>> {
        given_or_derived(
            self.memory.ram,
            prediction.map(|p| (p.host_peak, p.thread_buffers.unwrap_or(0))),
        )
    }
}

/// Returns the range of the manifest, otherwise the range around a predicted number of bytes, whose
/// maximum is extended by the second number.
fn given_or_derived(
    given: Option<ByteRange>,
    predicted: Option<(u64, u64)>,
) -> Option<ExpectedValue<ByteRange>> {
    match (given, predicted) {
        (Some(value), _) => Some(ExpectedValue { value, derived: false }),
        (None, Some((predicted, more))) => {
            let margin = ((predicted as f64 * DERIVED_MARGIN) as u64).max(MIN_DERIVED_MARGIN);
            let value = ByteRange {
                min: predicted.saturating_sub(margin),
                max: predicted.saturating_add(margin).saturating_add(more),
            };
            Some(ExpectedValue { value, derived: true })
        }
        (None, None) => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns an expectation with derived values only: no memory range and no answers.
    pub(in crate::check) fn expectation(quantization: &str) -> Expectation {
        Expectation {
            quantization: Scheme::from_name(quantization).expect("a scheme"),
            in_place: false,
            fixed_run: None,
            load_cached: ExpectedValue::or(None, Duration::from_secs(60)),
            load_first: ExpectedValue::or(None, Duration::from_secs(60)),
            memory: MemoryBounds::default(),
            perplexity: ExpectedValue::or(None, 100.0),
            text_sha256: String::new(),
            text_bytes: 0,
            answers: Vec::new(),
            answers_derived: true,
        }
    }
    #[test]
    fn a_given_value_replaces_the_derived_one() {
        assert_eq!(ExpectedValue::or(Some(1), 2), ExpectedValue { value: 1, derived: false });
        assert_eq!(ExpectedValue::or(None, 2), ExpectedValue { value: 2, derived: true });
    }

    /// Returns a prediction with these peaks.
    fn prediction(host_peak: u64, device_peak: u64, thread_buffers: Option<u64>) -> Prediction {
        Prediction {
            weights: 0,
            kv_cache: 0,
            activations: 0,
            baseline: 0,
            device_baseline: None,
            host_peak,
            device_peak,
            thread_buffers,
            disk: 0,
        }
    }

    #[test]
    fn a_derived_range_extends_by_a_twentieth_or_a_hundred_megabytes() {
        const MB: u64 = 1_000_000;
        for (predicted, min, max) in [
            (0, 0, 100 * MB),
            (99 * MB, 0, 199 * MB),
            (100 * MB, 0, 200 * MB),
            (101 * MB, MB, 201 * MB),
            (2_000 * MB, 1_900 * MB, 2_100 * MB),
            (2_020 * MB, 1_919 * MB, 2_121 * MB),
            (40_000 * MB, 38_000 * MB, 42_000 * MB),
        ] {
            let range = Some(ExpectedValue { value: ByteRange { min, max }, derived: true });
            let expectation = expectation("q4_k");
            let of_host = prediction(predicted, 7, None);
            assert_eq!(expectation.ram_range(Some(&of_host)), range, "RAM {predicted}");
            let of_device = prediction(7, predicted, Some(5 * MB));
            assert_eq!(expectation.vram_range(Some(&of_device)), range, "VRAM {predicted}");
        }
        let largest = expectation("q4_k").vram_range(Some(&prediction(0, u64::MAX, None)));
        assert_eq!(largest.expect("a range").value.max, u64::MAX);
    }

    #[test]
    fn the_buffers_of_threads_extend_only_the_maximum_of_host_memory() {
        let range = expectation("q4_k").ram_range(Some(&prediction(461, 0, Some(96))));
        let value = ByteRange { min: 0, max: 461 + MIN_DERIVED_MARGIN + 96 };
        assert_eq!(range, Some(ExpectedValue { value, derived: true }));
        let range =
            expectation("q4_k").ram_range(Some(&prediction(300_000_000, 0, Some(u64::MAX))));
        let value = ByteRange { min: 200_000_000, max: u64::MAX };
        assert_eq!(range, Some(ExpectedValue { value, derived: true }));
    }

    /// The peaks of SmolLM2 135M in q4_1, for which 461 MB are predicted.
    #[test]
    fn the_measured_peaks_on_few_and_many_cores_are_in_the_derived_range() {
        for (cores, max, measured) in [
            (2, 573_000_000, 487_000_000),
            (16, 657_000_000, 593_000_000),
            // a thread that uses all its buffers, on each core
            (64, 945_000_000, 461_000_000 + 64 * 6_000_000),
            (128, 1_329_000_000, 461_000_000 + 128 * 6_000_000),
        ] {
            let prediction = prediction(461_000_000, 0, None).with_cores(cores);
            let range = expectation("q4_1").ram_range(Some(&prediction)).expect("a range").value;
            assert_eq!(range, ByteRange { min: 361_000_000, max }, "{cores} cores");
            assert!(range.contains(measured), "{cores} cores");
        }
    }

    #[test]
    fn a_range_of_the_manifest_replaces_the_derived_one() {
        let of_vram = ByteRange { min: 1, max: 2 };
        let of_ram = ByteRange { min: 3, max: 4 };
        let memory = MemoryBounds { vram: Some(of_vram), ram: Some(of_ram) };
        let expectation = Expectation { memory, ..expectation("q4_k") };
        for prediction in [None, Some(prediction(50, 60, Some(70)))] {
            let given = |value| Some(ExpectedValue { value, derived: false });
            assert_eq!(expectation.vram_range(prediction.as_ref()), given(of_vram));
            assert_eq!(expectation.ram_range(prediction.as_ref()), given(of_ram));
        }
    }

    #[test]
    fn without_a_prediction_there_is_no_derived_range() {
        let expectation = expectation("q4_k");
        assert_eq!((expectation.vram_range(None), expectation.ram_range(None)), (None, None));
    }
}

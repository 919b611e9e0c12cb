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
        given_or_derived(self.memory.vram, prediction.map(|p| p.device_peak))
    }

    /// Returns the range of peak private host memory. `None` if neither manifest nor prediction
    /// gives one.
    pub fn ram_range(&self, prediction: Option<&Prediction>) -> Option<ExpectedValue<ByteRange>> {
        given_or_derived(self.memory.ram, prediction.map(|p| p.host_peak))
    }
}

fn given_or_derived(
    given: Option<ByteRange>,
    predicted: Option<u64>,
) -> Option<ExpectedValue<ByteRange>> {
    match (given, predicted) {
        (Some(value), _) => Some(ExpectedValue { value, derived: false }),
        (None, Some(predicted)) => {
            let margin = ((predicted as f64 * DERIVED_MARGIN) as u64).max(MIN_DERIVED_MARGIN);
            let value = ByteRange {
                min: predicted.saturating_sub(margin),
                max: predicted.saturating_add(margin),
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
}

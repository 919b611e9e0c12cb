//! What a measurement is compared with.

use super::fixed_run::FixedRun;
use crate::admission::{ByteRange, MemoryBounds, Prediction};
use modelgate_protocol::Scheme;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The part of a prediction by which a derived range of memory extends up and down.
const DERIVED_MARGIN: f64 = 0.05;
/// The least bytes by which it does: what a process takes for itself varies by as much from host to host.
const MIN_DERIVED_MARGIN: u64 = 100_000_000;

/// A value, and whether the manifest gave it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// Whether it was derived.
    pub derived: bool,
}

impl<T> Given<T> {
    /// Returns the value that was given, else `otherwise`, which is derived.
    pub fn or(given: Option<T>, otherwise: T) -> Given<T> {
        match given {
            Some(value) => Given { value, derived: false },
            None => Given { value: otherwise, derived: true },
        }
    }
}

/// What is expected of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// The quantization that was asked for.
    pub quantization: Scheme,
    /// Whether the weights were made in place, so that no source can have brought another type.
    pub in_place: bool,
    /// What a synthetic model was asked to go on from; `None` if the answers to questions are judged.
    pub fixed_run: Option<FixedRun>,
    /// Time from spawn until loaded.
    pub load_cached: Given<Duration>,
    /// The same with the download, if anything was downloaded.
    pub load_first: Given<Duration>,
    /// Peaks of memory; derived from the measurement's prediction if they are `None`.
    pub memory: MemoryBounds,
    /// The highest perplexity.
    pub perplexity: Given<f64>,
    /// The SHA-256 of the perplexity text, in hexadecimal.
    pub text_sha256: String,
    /// The length of that text.
    pub text_bytes: u64,
    /// The answers that are right, in the order of the questions.
    pub answers: Vec<Answer>,
    /// Whether the questions are the built-in ones.
    pub answers_derived: bool,
}

/// The answers that are right for one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The name of the question.
    pub name: String,
    /// Any of these.
    pub any_of: Vec<String>,
}

impl Expectation {
    /// Returns the range of peak device memory; `None` if neither manifest nor prediction gives one.
    pub fn vram_range(&self, prediction: Option<&Prediction>) -> Option<Given<ByteRange>> {
        range(self.memory.vram, prediction.map(|p| p.device_peak))
    }

    /// Returns the range of peak private host memory; `None` if neither manifest nor prediction gives
    /// one.
    pub fn ram_range(&self, prediction: Option<&Prediction>) -> Option<Given<ByteRange>> {
        range(self.memory.ram, prediction.map(|p| p.host_peak))
    }
}

fn range(given: Option<ByteRange>, predicted: Option<u64>) -> Option<Given<ByteRange>> {
    match (given, predicted) {
        (Some(value), _) => Some(Given { value, derived: false }),
        (None, Some(predicted)) => {
            let margin = ((predicted as f64 * DERIVED_MARGIN) as u64).max(MIN_DERIVED_MARGIN);
            let value = ByteRange {
                min: predicted.saturating_sub(margin),
                max: predicted.saturating_add(margin),
            };
            Some(Given { value, derived: true })
        }
        (None, None) => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An expectation of nothing in particular.
    pub(in crate::check) fn expecting(quantization: &str) -> Expectation {
        Expectation {
            quantization: Scheme::from_name(quantization).expect("a scheme"),
            in_place: false,
            fixed_run: None,
            load_cached: Given::or(None, Duration::from_secs(60)),
            load_first: Given::or(None, Duration::from_secs(60)),
            memory: MemoryBounds::default(),
            perplexity: Given::or(None, 100.0),
            text_sha256: String::new(),
            text_bytes: 0,
            answers: Vec::new(),
            answers_derived: true,
        }
    }
}

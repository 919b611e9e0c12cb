//! Applies a check to a measurement.

use super::expectation::Expectation;
use super::kind::Check;
use super::verdict::Verdict;
use super::{generation, load, memory_range, quantization, synthetic_generation, time_budget};
use crate::measurement::Measurement;

impl Check {
    /// Returns the verdict of this check on `measurement`.
    ///
    /// If the evidence is missing from the measurement, the verdict is `blocked`, with the cause.
    /// Only the check whose own subject failed reports `failed`.
    pub fn verdict(self, measurement: &Measurement, expectation: &Expectation) -> Verdict {
        let verdict = match self {
            Check::Load => load::check(measurement),
            Check::TimeBudget => time_budget::check(measurement, expectation),
            Check::MemoryRange => memory_range::check(measurement, expectation),
            Check::Generation => match &expectation.fixed_run {
                None => generation::check(measurement, expectation),
                Some(fixed_run) => synthetic_generation::check(measurement, fixed_run),
            },
            Check::Quantization => quantization::check(measurement, expectation),
        };
        Verdict { check: self, ..verdict }
    }
}

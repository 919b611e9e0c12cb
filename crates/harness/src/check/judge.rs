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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::expectation::tests::expectation;
    use crate::check::fixed_run::FixedRun;
    use crate::check::verdict::Status;

    #[test]
    fn each_check_has_its_own_verdict_and_never_passes_without_a_measurement() {
        let expected = [
            "every tensor of the architecture resident",
            "load within 60 s",
            "",
            "; perplexity at most 100",
            "every quantizable tensor in q4_k",
        ];
        for (check, expected) in Check::ALL.into_iter().zip(expected) {
            let verdict = check.verdict(&Measurement::empty(), &expectation("q4_k"));
            assert_eq!(verdict.check, check);
            assert!(verdict.expected.starts_with(expected), "{verdict:?}");
            let status = if check == Check::Load { Status::Failed } else { Status::Blocked };
            assert_eq!(verdict.status, status, "{verdict:?}");
        }
    }

    #[test]
    fn the_answers_of_a_synthetic_model_are_judged_by_its_fixed_run() {
        let fixed_run = Some(FixedRun { context: None, has_config: false });
        let expectation = Expectation { fixed_run, ..expectation("q4_k") };
        let verdict = Check::Generation.verdict(&Measurement::empty(), &expectation);
        assert!(verdict.expected.starts_with("synthetic: 64 tokens after 512"), "{verdict:?}");
    }
}

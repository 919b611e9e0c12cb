//! `generation`: finite logits, valid text, an accepted answer, identical tokens in two runs, a
//! stop token, and a perplexity below the limit.

use super::expectation::{Answer, Expectation};
use super::verdict::{Verdict, without_evidence};
use super::words;
use crate::measurement::{Measurement, Outcome};
use modelgate_protocol::{FinishReason, Generation, Stage};

const HINT: &str = "read the verdict of `quantization` and the errors of the tensors first: they \
                    show a damaged weight or a wrong file";

/// The maximum mean number of text bytes per token: twice that of the largest vocabularies. Fewer
/// tokens do not cover the complete text, and a part of it may have a low perplexity by chance.
const MAX_TOKEN_BYTES: u64 = 16;

/// Compares every answer and the perplexity with the expectation.
pub(super) fn check(measurement: &Measurement, expectation: &Expectation) -> Verdict {
    let expected = format!(
        "{}; perplexity at most {}",
        expectation
            .answers
            .iter()
            .map(|answer| format!("{}: {}", answer.name, alternatives(&answer.any_of)))
            .collect::<Vec<_>>()
            .join(", "),
        expectation.perplexity.value
    );
    if !is_complete(measurement) {
        return without_evidence(measurement, expected, measurement.load_s.is_some());
    }
    let derived = expectation.answers_derived && expectation.perplexity.derived;
    let verdict = Verdict::passed(expected, observed(measurement), derived);
    let wrong = expectation
        .answers
        .iter()
        .enumerate()
        .find_map(|(index, answer)| wrong_answer(answer, measurement.generations.get(index)))
        .or_else(|| extra_answers(measurement, expectation))
        .or_else(|| wrong_perplexity(measurement, expectation));
    match wrong {
        None => verdict,
        Some(message) => verdict.failed(message, HINT),
    }
}

/// Returns whether all answers were given, which is also true for a worker that failed only at its
/// end.
pub(super) fn is_complete(measurement: &Measurement) -> bool {
    let failed_at = measurement.failure.as_ref().map(|failure| failure.stage);
    measurement.outcome == Outcome::Measured || failed_at == Some(Stage::Unload)
}

fn observed(measurement: &Measurement) -> String {
    let mut parts: Vec<String> = measurement
        .generations
        .iter()
        .map(|generation| format!("{}: {:?}", generation.name, shortened(&generation.text)))
        .collect();
    parts.push(match measurement.perplexity.as_ref().and_then(|perplexity| perplexity.value) {
        Some(value) => format!("perplexity {:.3}", value.get()),
        None => "no perplexity".into(),
    });
    parts.join("; ")
}

fn wrong_answer(answer: &Answer, generation: Option<&Generation>) -> Option<String> {
    let name = &answer.name;
    let Some(generation) = generation.filter(|generation| generation.name == *name) else {
        return Some(format!("{name}: the worker reported no answer"));
    };
    if let Some(wrong) = invalid_values(generation) {
        return Some(wrong);
    }
    let text = shortened(&generation.text);
    if generation.text.contains(char::REPLACEMENT_CHARACTER) {
        return Some(format!("{name}: the answer contains bytes that are not UTF-8: {text:?}"));
    }
    if !answer.any_of.iter().any(|phrase| words::contains(&generation.text, phrase)) {
        return Some(format!(
            "{name}: expected {} in the answer, found {text:?}",
            alternatives(&answer.any_of)
        ));
    }
    if generation.finish_reason != FinishReason::Stop {
        return Some(format!(
            "{name}: no stop within {} tokens: {text:?}",
            generation.tokens.len()
        ));
    }
    repetition_error(generation)
}

/// Returns an error if the generation is invalid regardless of its text: non-finite logits, missing
/// tokens or missing log-probabilities. `None` if it is valid.
pub(super) fn invalid_values(generation: &Generation) -> Option<String> {
    let name = &generation.name;
    if generation.non_finite_logits > 0 {
        return Some(format!(
            "{name}: {} logits are NaN or infinite",
            generation.non_finite_logits
        ));
    }
    if generation.tokens.is_empty() || generation.prompt_tokens.is_empty() {
        return Some(format!("{name}: the worker reported no tokens"));
    }
    (generation.logprobs.len() != generation.tokens.len()
        || generation.logprobs.iter().any(Option::is_none))
    .then(|| format!("{name}: not every token has a finite log-probability"))
}

/// Returns an error if the second run of the prompt gave different tokens.
pub(super) fn repetition_error(generation: &Generation) -> Option<String> {
    (!generation.repeated_identically).then(|| {
        format!("{}: the same prompt gave different tokens in the second run", generation.name)
    })
}

fn extra_answers(measurement: &Measurement, expectation: &Expectation) -> Option<String> {
    let (found, expected) = (measurement.generations.len(), expectation.answers.len());
    (found != expected).then(|| format!("expected {expected} answers, found {found}"))
}

fn wrong_perplexity(measurement: &Measurement, expectation: &Expectation) -> Option<String> {
    let Some(perplexity) = &measurement.perplexity else {
        return Some("the worker reported no perplexity".into());
    };
    if perplexity.text_sha256 != expectation.text_sha256 {
        return Some(format!(
            "the perplexity is that of a different text: expected the text with SHA-256 {}",
            expectation.text_sha256
        ));
    }
    let min_tokens = (expectation.text_bytes / MAX_TOKEN_BYTES).max(1);
    if perplexity.tokens < min_tokens {
        return Some(format!(
            "the perplexity covers {} tokens, expected at least {min_tokens} for a text of {} \
             bytes",
            perplexity.tokens, expectation.text_bytes
        ));
    }
    let Some(value) = perplexity.value else {
        return Some("the perplexity is NaN or infinite".into());
    };
    (value.get() > expectation.perplexity.value || value.get() < 1.0).then(|| {
        format!(
            "the perplexity of {} tokens is {:.3}, expected 1 to {}",
            perplexity.tokens,
            value.get(),
            expectation.perplexity.value
        )
    })
}

fn alternatives(any_of: &[String]) -> String {
    any_of.iter().map(|answer| format!("{answer:?}")).collect::<Vec<_>>().join(" or ")
}

/// Returns at most the first 200 characters of `text`, trimmed.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(200) {
        None => text.trim().to_owned(),
        Some((end, _)) => format!("{}...", text[..end].trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::expectation::{ExpectedValue, tests::expectation};
    use crate::check::kind::Check;
    use crate::check::verdict::Status;
    use modelgate_protocol::{Failure, FailureKind, Finite, Perplexity};

    const SHA256: &str = "0123";

    /// Returns an expectation of two answers, and of a perplexity of at most 8 on a text of 1,600
    /// bytes.
    fn expected() -> Expectation {
        let answer = |name: &str, any_of: &[&str]| Answer {
            name: name.into(),
            any_of: any_of.iter().map(|text| (*text).to_owned()).collect(),
        };
        Expectation {
            answers: vec![answer("capital", &["Paris"]), answer("sum", &["7", "seven"])],
            perplexity: ExpectedValue::or(None, 8.0),
            text_sha256: SHA256.into(),
            text_bytes: 1600,
            ..expectation("none")
        }
    }

    fn generation(name: &str, text: &str) -> Generation {
        Generation {
            name: name.into(),
            inputs: Vec::new(),
            prompt_tokens: vec![1, 2],
            tokens: vec![3, 4, 5],
            text: text.into(),
            logprobs: vec![Finite::new(-0.5), Finite::new(0.0), Finite::new(-9.0)],
            non_finite_logits: 0,
            time_to_first_token_s: None,
            decode_tokens_per_s: None,
            finish_reason: FinishReason::Stop,
            repeated_identically: true,
        }
    }

    /// Returns a measurement that meets [`expected`].
    fn measured() -> Measurement {
        let perplexity =
            Perplexity { text_sha256: SHA256.into(), tokens: 400, value: Finite::new(4.25) };
        Measurement {
            outcome: Outcome::Measured,
            load_s: Finite::new(1.0),
            generations: vec![
                generation("capital", "It is Paris."),
                generation("sum", "The sum is seven."),
            ],
            perplexity: Some(perplexity),
            ..Measurement::empty()
        }
    }

    fn verdict(measurement: &Measurement) -> Verdict {
        Check::Generation.verdict(measurement, &expected())
    }

    fn assert_passes(change: impl FnOnce(&mut Measurement)) {
        let mut measurement = measured();
        change(&mut measurement);
        let verdict = verdict(&measurement);
        assert_eq!((verdict.status, verdict.message), (Status::Passed, None));
    }

    /// Asserts that a healthy measurement fails after `change`, with exactly this message.
    fn assert_fails(change: impl FnOnce(&mut Measurement), message: &str) {
        let mut measurement = measured();
        change(&mut measurement);
        let verdict = verdict(&measurement);
        assert_eq!(verdict.message.as_deref(), Some(message), "{verdict:?}");
        assert_eq!((verdict.status, verdict.hint.as_deref()), (Status::Failed, Some(HINT)));
    }

    /// Asserts that a measurement fails after `change` of the answer with this index.
    fn assert_answer_fails(index: usize, change: impl FnOnce(&mut Generation), message: &str) {
        assert_fails(|m| change(&mut m.generations[index]), message);
    }

    /// Returns a change of the perplexity.
    fn perplexity(tokens: u64, value: f64) -> impl FnOnce(&mut Measurement) {
        let perplexity =
            Perplexity { text_sha256: SHA256.into(), tokens, value: Finite::new(value) };
        move |m| m.perplexity = Some(perplexity)
    }

    #[test]
    fn correct_answers_pass() {
        let passed = verdict(&measured());
        assert_eq!((passed.status, &passed.message), (Status::Passed, &None));
        assert_eq!(
            passed.expected,
            "capital: \"Paris\", sum: \"7\" or \"seven\"; perplexity at most 8"
        );
        assert_eq!(
            passed.observed,
            "capital: \"It is Paris.\"; sum: \"The sum is seven.\"; perplexity 4.250"
        );
    }

    #[test]
    fn an_expectation_is_derived_if_all_its_parts_are() {
        for (answers_derived, given, derived) in
            [(true, None, true), (true, Some(8.0), false), (false, None, false)]
        {
            let perplexity = ExpectedValue::or(given, 8.0);
            let expectation = Expectation { answers_derived, perplexity, ..expected() };
            let verdict = Check::Generation.verdict(&measured(), &expectation);
            assert_eq!((verdict.status, verdict.derived), (Status::Passed, derived));
        }
    }

    #[test]
    fn logits_that_are_not_finite_fail() {
        // the worker of this project ends such an answer early with the reason `length`
        for finish_reason in [FinishReason::Length, FinishReason::Stop] {
            for index in [0, 1] {
                let name = ["capital", "sum"][index];
                assert_answer_fails(
                    index,
                    |g| {
                        g.non_finite_logits = 1;
                        g.finish_reason = finish_reason;
                    },
                    &format!("{name}: 1 logits are NaN or infinite"),
                );
                // at the first token
                assert_answer_fails(
                    index,
                    |g| {
                        g.non_finite_logits = 96;
                        g.finish_reason = finish_reason;
                        g.tokens.clear();
                        g.logprobs.clear();
                        g.text.clear();
                    },
                    &format!("{name}: 96 logits are NaN or infinite"),
                );
            }
        }
    }

    #[test]
    fn missing_tokens_and_log_probabilities_fail() {
        let no_tokens = "capital: the worker reported no tokens";
        let no_logprob = "capital: not every token has a finite log-probability";
        assert_answer_fails(0, |g| g.tokens.clear(), no_tokens);
        assert_answer_fails(0, |g| g.prompt_tokens.clear(), no_tokens);
        assert_answer_fails(0, |g| g.logprobs.clear(), no_logprob);
        assert_answer_fails(0, |g| g.logprobs.truncate(2), no_logprob);
        assert_answer_fails(0, |g| g.logprobs.push(Finite::new(-1.0)), no_logprob);
        for index in 0..3 {
            assert_answer_fails(0, |g| g.logprobs[index] = None, no_logprob);
        }
    }

    #[test]
    fn wrong_answers_fail() {
        assert_answer_fails(
            0,
            |g| g.text = "It is Rome.".into(),
            "capital: expected \"Paris\" in the answer, found \"It is Rome.\"",
        );
        assert_answer_fails(
            1,
            |g| g.text = " 17 \n".into(),
            "sum: expected \"7\" or \"seven\" in the answer, found \"17\"",
        );
        assert_answer_fails(
            1,
            |g| g.text.clear(),
            "sum: expected \"7\" or \"seven\" in the answer, found \"\"",
        );
        assert_answer_fails(
            0,
            |g| g.text.push(char::REPLACEMENT_CHARACTER),
            "capital: the answer contains bytes that are not UTF-8: \"It is Paris.\u{fffd}\"",
        );
        assert_answer_fails(
            1,
            |g| g.finish_reason = FinishReason::Length,
            "sum: no stop within 3 tokens: \"The sum is seven.\"",
        );
        assert_answer_fails(
            1,
            |g| g.repeated_identically = false,
            "sum: the same prompt gave different tokens in the second run",
        );
        assert_passes(|m| m.generations[1].text = "7".into());
    }

    #[test]
    fn answers_in_the_wrong_number_or_order_fail() {
        let missing = |name: &str| format!("{name}: the worker reported no answer");
        assert_fails(|m| m.generations.clear(), &missing("capital"));
        assert_fails(|m| drop(m.generations.pop()), &missing("sum"));
        assert_fails(|m| drop(m.generations.remove(0)), &missing("capital"));
        assert_fails(|m| m.generations.swap(0, 1), &missing("capital"));
        assert_fails(|m| m.generations[1].name = "other".into(), &missing("sum"));
        assert_fails(|m| m.generations.push(generation("sum", "7")), "expected 2 answers, found 3");
        // an answer without a question has no expectation
        assert_fails(
            |m| {
                let broken = Generation { non_finite_logits: 1, ..generation("more", "x") };
                m.generations.extend([broken.clone(), broken]);
            },
            "expected 2 answers, found 4",
        );
        let none = Expectation { answers: Vec::new(), ..expected() };
        let verdict = Check::Generation.verdict(&measured(), &none);
        assert_eq!(verdict.message.as_deref(), Some("expected 0 answers, found 2"));
    }

    #[test]
    fn the_limits_of_the_perplexity_are_inclusive() {
        let wrong =
            |value: &str| format!("the perplexity of 400 tokens is {value}, expected 1 to 8");
        for value in [1.0, 1.001, 7.999, 8.0] {
            assert_passes(perplexity(400, value));
        }
        for (value, text) in [
            (0.999, "0.999"),
            (0.0, "0.000"),
            (-1.0, "-1.000"),
            (-8.0, "-8.000"),
            (8.001, "8.001"),
            (1e6, "1000000.000"),
        ] {
            assert_fails(perplexity(400, value), &wrong(text));
        }
    }

    #[test]
    fn a_perplexity_without_a_value_fails() {
        assert_fails(|m| m.perplexity = None, "the worker reported no perplexity");
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_fails(perplexity(400, value), "the perplexity is NaN or infinite");
        }
        let mut measurement = measured();
        perplexity(400, f64::NAN)(&mut measurement);
        assert!(verdict(&measurement).observed.ends_with("; no perplexity"));
    }

    #[test]
    fn a_perplexity_of_a_part_of_the_text_fails() {
        // a sixteenth of 1,600 bytes
        for tokens in [100, 101, 1600, u64::MAX] {
            assert_passes(perplexity(tokens, 4.0));
        }
        for tokens in [0, 1, 99] {
            assert_fails(
                perplexity(tokens, 4.0),
                &format!(
                    "the perplexity covers {tokens} tokens, expected at least 100 for a text of \
                     1600 bytes"
                ),
            );
        }
        // a text of less than 16 bytes needs one token
        for (text_bytes, tokens, status) in [
            (0, 0, Status::Failed),
            (0, 1, Status::Passed),
            (15, 0, Status::Failed),
            (15, 1, Status::Passed),
            (31, 1, Status::Passed),
            (32, 1, Status::Failed),
            (32, 2, Status::Passed),
        ] {
            let mut measurement = measured();
            perplexity(tokens, 4.0)(&mut measurement);
            let expectation = Expectation { text_bytes, ..expected() };
            let verdict = Check::Generation.verdict(&measurement, &expectation);
            assert_eq!(verdict.status, status, "{text_bytes} {tokens}");
        }
    }

    #[test]
    fn the_perplexity_of_a_different_text_fails() {
        for other in ["", "0124", "01234"] {
            assert_fails(
                |m| m.perplexity.as_mut().expect("a perplexity").text_sha256 = other.into(),
                "the perplexity is that of a different text: expected the text with SHA-256 0123",
            );
        }
    }

    #[test]
    fn a_long_answer_is_shortened_in_messages() {
        assert_eq!(shortened("  short \n"), "short");
        let of = |length: usize| shortened(&"\u{e4}".repeat(length));
        assert_eq!(of(200), "\u{e4}".repeat(200));
        assert_eq!(of(201), "\u{e4}".repeat(200) + "...");
    }

    #[test]
    fn a_worker_that_fails_only_at_its_end_is_judged() {
        let with_failure = |stage, load_s: Option<f64>| Measurement {
            outcome: Outcome::Crashed,
            failure: Some(Failure::new(stage, FailureKind::Crashed, "a message", "a hint")),
            load_s: load_s.and_then(Finite::new),
            ..measured()
        };
        let at_end = with_failure(Stage::Unload, Some(1.0));
        assert_eq!(verdict(&at_end).status, Status::Passed);
        let wrong = Measurement { perplexity: None, ..at_end };
        assert_eq!(verdict(&wrong).status, Status::Failed);
        let during = verdict(&with_failure(Stage::Generate, Some(1.0)));
        assert_eq!(during.status, Status::Failed);
        assert_eq!(during.message.as_deref(), Some("crashed (generate): a message"));
        assert_eq!(during.observed, "not measured");
        let before = verdict(&with_failure(Stage::Load, None));
        assert_eq!(before.status, Status::Blocked);
        let interrupted = Measurement { outcome: Outcome::Interrupted, ..measured() };
        assert_eq!(verdict(&interrupted).status, Status::Failed, "without a failure");
    }
}

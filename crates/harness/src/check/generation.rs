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

//! The expectation of a model: the values of its manifest entry, otherwise derived values.

use super::questions::questions;
use super::text::PerplexityText;
use crate::check::{Answer, Expectation, ExpectedValue, FixedRun};
use crate::manifest::{Model, WeightOrigin};
use std::time::Duration;

/// The maximum time to load without a download, if the manifest gives none.
const DERIVED_CACHED_LOAD: Duration = Duration::from_secs(20 * 60);
/// The maximum time to load including the download, if the manifest gives none.
const DERIVED_FIRST_LOAD: Duration = Duration::from_secs(30 * 60);
/// A perplexity of plain English that only a broken model exceeds. Instruct models of 1 to 70
/// billion parameters stay below a third of it.
const DERIVED_MAX_PERPLEXITY: f64 = 100.0;

/// Returns the expectation of `model`, whose perplexity is measured on `text`.
pub(super) fn expectation(
    model: &Model,
    fixed_run: Option<FixedRun>,
    text: Option<&PerplexityText>,
) -> Expectation {
    let answers = questions(model)
        .into_iter()
        .map(|question| Answer { name: question.name, any_of: question.expect });
    Expectation {
        quantization: model.quantization,
        in_place: model.weights == WeightOrigin::InPlace,
        fixed_run,
        load_cached: ExpectedValue::or(model.expect.load_time.cached, DERIVED_CACHED_LOAD),
        load_first: ExpectedValue::or(model.expect.load_time.first, DERIVED_FIRST_LOAD),
        memory: model.expect.memory,
        perplexity: ExpectedValue::or(model.expect.perplexity.max, DERIVED_MAX_PERPLEXITY),
        text_sha256: text.map_or_else(String::new, |text| text.sha256.clone()),
        text_bytes: text.map_or(0, |text| text.text.len() as u64),
        answers: answers.collect(),
        answers_derived: model.generations.is_empty(),
    }
}

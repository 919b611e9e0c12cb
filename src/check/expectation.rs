//! What a measurement is held against: from the manifest, or derived where it says nothing.

use super::fixed_run::fixed_run;
use crate::manifest::{ByteRange, Manifest, Model, Question, Weights};
use modelgate_model::Config;
use modelgate_protocol::{
    ContentPart, Evidence, GenerationRequest, Measurement, Message, Prediction, Scheme,
};
use std::path::Path;
use std::time::Duration;

const DERIVED_CACHED: Duration = Duration::from_secs(20 * 60);
const DERIVED_FIRST: Duration = Duration::from_secs(30 * 60);
/// Perplexity of plain English that only a broken model exceeds: sound instruct models of 1 to 70
/// billion parameters stay below a third of it.
const DERIVED_PERPLEXITY: f64 = 100.0;
/// Part of the prediction by which a derived range of memory goes up and down.
const DERIVED_MARGIN: f64 = 0.05;
/// The least by which it does: what a process takes for itself varies by as much from host to host.
const LEAST_MARGIN: u64 = 100_000_000;

/// The built-in text whose perplexity is measured where the manifest gives none.
const BUILT_IN_TEXT: &str = include_str!("../../fixtures/text/perplexity.txt");

/// A value, and whether the manifest gave it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// Whether it was derived.
    pub derived: bool,
}

impl<T> Given<T> {
    fn or(given: Option<T>, otherwise: T) -> Given<T> {
        match given {
            Some(value) => Given { value, derived: false },
            None => Given { value: otherwise, derived: true },
        }
    }
}

/// What is expected of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// The quantization that was asked for.
    pub quantization: Scheme,
    /// Whose the weights are.
    pub weights: Weights,
    /// What a synthetic model was asked to go on from; none where the answers to questions are
    /// judged.
    pub fixed_run: Option<GenerationRequest>,
    /// Time from spawn until loaded.
    pub load_cached: Given<Duration>,
    /// The same with the download, where anything was downloaded.
    pub load_first: Given<Duration>,
    /// Peak device memory; derived from the measurement's prediction where none.
    pub vram: Option<ByteRange>,
    /// Peak private host memory; likewise.
    pub ram: Option<ByteRange>,
    /// Perplexity at most.
    pub perplexity: Given<f64>,
    /// The text's SHA-256 in hexadecimal.
    pub text_sha256: String,
    /// The text's length.
    pub text_bytes: u64,
    /// The answers that are right, in the order of the questions.
    pub answers: Vec<Answer>,
    /// Whether the questions are the built-in ones.
    pub answers_derived: bool,
}

/// The answers that are right for one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The generation's name.
    pub name: String,
    /// Any of these.
    pub any_of: Vec<String>,
}

impl Expectation {
    /// What is expected of `model`, whose perplexity is measured on `text`. `measurement` says
    /// nothing but what the model's config is.
    pub fn of(model: &Model, text: &str, measurement: &Measurement) -> Expectation {
        let synthetic = model.weights.evidence() == Evidence::Synthetic;
        let config = || Config::from_json(measurement.config.as_deref()?).ok();
        Expectation {
            quantization: model.quantization,
            weights: model.weights,
            fixed_run: synthetic.then(|| fixed_run(model, config().as_ref())),
            load_cached: Given::or(model.expect.load_time.cached, DERIVED_CACHED),
            load_first: Given::or(model.expect.load_time.first, DERIVED_FIRST),
            vram: model.expect.vram,
            ram: model.expect.ram,
            perplexity: Given::or(model.expect.perplexity.max, DERIVED_PERPLEXITY),
            text_sha256: crate::hash::sha256_hex(text.as_bytes()),
            text_bytes: text.len() as u64,
            answers: questions(model)
                .into_iter()
                .map(|question| Answer { name: question.name, any_of: question.expect })
                .collect(),
            answers_derived: model.generations.is_empty(),
        }
    }

    /// The range of peak device memory; none where neither manifest nor prediction says one.
    pub fn vram_range(&self, prediction: Option<&Prediction>) -> Option<Given<ByteRange>> {
        range(self.vram, prediction.map(|p| p.device_peak))
    }

    /// The range of peak private host memory; likewise.
    pub fn ram_range(&self, prediction: Option<&Prediction>) -> Option<Given<ByteRange>> {
        range(self.ram, prediction.map(|p| p.host_peak))
    }
}

fn range(given: Option<ByteRange>, predicted: Option<u64>) -> Option<Given<ByteRange>> {
    match (given, predicted) {
        (Some(value), _) => Some(Given { value, derived: false }),
        (None, Some(predicted)) => {
            let margin = ((predicted as f64 * DERIVED_MARGIN) as u64).max(LEAST_MARGIN);
            let value = ByteRange {
                min: predicted.saturating_sub(margin),
                max: predicted.saturating_add(margin),
            };
            Some(Given { value, derived: true })
        }
        (None, None) => None,
    }
}

/// The model's questions: the manifest's, else the built-in ones.
fn questions(model: &Model) -> Vec<Question> {
    if !model.generations.is_empty() {
        return model.generations.clone();
    }
    let ask = |name: &str, prompt: &str, expect: &[&str]| Question {
        name: name.to_owned(),
        messages: vec![Message {
            role: "user".into(),
            content: vec![ContentPart::Text(prompt.to_owned())],
        }],
        max_tokens: 128,
        expect: expect.iter().map(|answer| (*answer).to_owned()).collect(),
    };
    vec![
        ask("capital", "What is the capital of France? Answer in one sentence.", &["Paris"]),
        ask("sum", "What is 7 plus 5? Answer in one sentence.", &["12", "twelve"]),
    ]
}

/// What a worker is asked to generate: the questions without their answers, or of a synthetic
/// model of that config a fixed run of tokens.
pub fn generation_requests(model: &Model, config: Option<&Config>) -> Vec<GenerationRequest> {
    if model.weights.evidence() == Evidence::Synthetic {
        return vec![fixed_run(model, config)];
    }
    questions(model)
        .into_iter()
        .map(|question| GenerationRequest {
            name: question.name,
            messages: question.messages,
            tokens: Vec::new(),
            max_tokens: question.max_tokens,
        })
        .collect()
}

/// The text whose perplexity is measured; none for a synthetic model, which no text surprises.
///
/// # Errors
/// The file that the manifest names cannot be read or is empty.
pub fn perplexity_text(model: &Model, manifest: &Manifest) -> Result<Option<String>, String> {
    if model.weights.evidence() == Evidence::Synthetic {
        return Ok(None);
    }
    let Some(path) = &model.expect.perplexity.text else {
        return Ok(Some(BUILT_IN_TEXT.to_owned()));
    };
    let read = |path: &Path| {
        crate::acquire::read_small(path).map_err(|error| {
            format!("{}: expect.perplexity.text cannot be read: {error}", path.display())
        })
    };
    let text = match manifest.folder() {
        Some(folder) => read(&folder.join(path))?,
        None => crate::bundled::text(path)
            .map(str::to_owned)
            .ok_or_else(|| format!("{}: not among the bundled files", path.display()))?,
    };
    if text.trim().is_empty() {
        return Err(format!("{}: expect.perplexity.text is empty", path.display()));
    }
    Ok(Some(text))
}

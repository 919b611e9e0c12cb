//! Measures the effect of each quantization on the bundled tiny models: bytes, bits per weight,
//! perplexity, KL divergence from f32 and the number of correct answers. Prints the Markdown table of
//! `docs/benchmarks/quantization.md`.
//!
//! `cargo bench -p modelgate-engine --bench quantization_damage`

use modelgate_engine::{Model, answer, perplexity};
use modelgate_model::Config;
use modelgate_protocol::{Event, Failure, Request, Scheme, Tensor};
use modelgate_testkit::distributions::{divergence, log_softmax};
use modelgate_testkit::gguf::{GgmlDType, GgufWriter, TypeOf, Vocabulary, q4_k_m, uniform};
use modelgate_testkit::{model_files, requests};
use serde::Deserialize;
use std::error::Error;
use std::path::Path;
use std::sync::Mutex;

/// A question and the words that a correct answer contains.
#[derive(Deserialize)]
struct Fact {
    question: String,
    answer: String,
}

/// The questions for every model.
struct Questions {
    text: String,
    facts: Vec<Fact>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny");
    let questions = Questions {
        text: std::fs::read_to_string(fixtures.join("perplexity.txt"))?,
        facts: serde_json::from_str(&std::fs::read_to_string(fixtures.join("facts.json"))?)?,
    };
    println!(
        "| model | quantization | bytes | bits per weight | perplexity | KL divergence | answers |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for name in ["llama", "mixtral", "qwen2.5-omni"] {
        let folder = fixtures.join(name);
        let mut reference = None;
        for scheme in Scheme::UNIFORM {
            let request = requests::load(model_files::safetensors_folder(&folder), scheme);
            row(name, &scheme.to_string(), &request, &questions, &mut reference)?;
        }
        let config = Config::from_json(&std::fs::read_to_string(folder.join("config.json"))?)?;
        let files = tempfile::tempdir()?;
        let (q4_k, mix, q8_0) =
            (uniform(GgmlDType::Q4K), q4_k_m(&config), uniform(GgmlDType::Q8_0));
        let forms: [(Scheme, TypeOf); 3] =
            [(Scheme::Q4K, &q4_k), (Scheme::Q4KM, &mix), (Scheme::Q8_0, &q8_0)];
        for (scheme, dtype) in forms {
            let vocabulary = Vocabulary::OfSourceFolder;
            let writer = GgufWriter { vocabulary, ..GgufWriter::new(dtype) };
            let written = writer.write(&folder, &files.path().join(format!("{scheme}.gguf")));
            let request = requests::load(model_files::gguf(&written[0]), scheme);
            row(name, &format!("{scheme}, GGUF"), &request, &questions, &mut reference)?;
        }
    }
    Ok(())
}

/// Loads and questions one model, and prints the results.
fn row(
    name: &str,
    form: &str,
    request: &Request,
    questions: &Questions,
    reference: &mut Option<Vec<Vec<f64>>>,
) -> Result<(), Box<dyn Error>> {
    let tensors = Mutex::new(Vec::new());
    let keep = |event: Event| {
        if let Event::Tensor(tensor) = event
            && let Ok(mut tensors) = tensors.lock()
        {
            tensors.push(tensor);
        }
    };
    let mut model = Model::load(request, &keep)?;
    let log_probabilities = log_probabilities(&mut model, &questions.text)?;
    let reference = reference.get_or_insert_with(|| log_probabilities.clone());
    let right = correct_answers(&mut model, &questions.facts)?;
    let perplexity = perplexity(&mut model, &questions.text, &|_| {})?;
    let value = perplexity.value.map_or(f64::NAN, |value| value.get());
    let tensors = tensors.into_inner()?;
    let bytes: u64 = tensors.iter().map(|tensor| tensor.bytes).sum();
    let weights: u64 = tensors.iter().map(Tensor::elements).sum();
    println!(
        "| {name} | {form} | {bytes} | {:.2} | {value:.4} | {:.2e} | {right} of {} |",
        bytes as f64 * 8.0 / weights as f64,
        mean_divergence(reference, &log_probabilities),
        questions.facts.len()
    );
    Ok(())
}

/// Returns the log-probabilities of every token at every position of the text, in f64.
fn log_probabilities(model: &mut Model, text: &str) -> Result<Vec<Vec<f64>>, Box<dyn Error>> {
    model.reset();
    let tokens = model.encode(text, true)?;
    let logits = model.forward(&tokens, 0)?.to_vec2::<f32>()?;
    Ok(logits.iter().map(|row| log_softmax(row)).collect())
}

/// Returns the mean KL divergence of `other` from `reference` over all positions, in nats.
fn mean_divergence(reference: &[Vec<f64>], other: &[Vec<f64>]) -> f64 {
    let sum: f64 = reference.iter().zip(other).map(|(p, q)| divergence(p, q)).sum();
    sum / reference.len() as f64
}

fn correct_answers(model: &mut Model, facts: &[Fact]) -> Result<usize, Failure> {
    let mut right = 0;
    for fact in facts {
        let request = requests::question(&fact.question, 128);
        let text = answer(model, &request, &|_| {})?.text.to_lowercase();
        right += usize::from(text.contains(&fact.answer.to_lowercase()));
    }
    Ok(right)
}

//! Measures the effect of each quantization on the bundled tiny models, or on the models at given
//! paths: bytes, bits per weight, perplexity, KL divergence from the unquantized model and, for the
//! bundled models, the number of correct answers. Prints the Markdown tables of
//! `docs/benchmarks/quantization.md`.
//!
//! `cargo bench -p modelgate-engine --bench quantization_damage`
//!
//! `cargo bench -p modelgate-engine --bench quantization_damage -- FOLDER [FILE.gguf=SCHEME]...`
//! loads the safetensors model in a folder in each quantization, and GGUF files of the same model.
//! `MODELGATE_DEVICE` selects the device.

use modelgate_engine::{Model, answer, perplexity};
use modelgate_model::Config;
use modelgate_protocol::{Event, Failure, ModelFiles, Request, Scheme, Tensor};
use modelgate_testkit::distributions::{divergence, log_softmax};
use modelgate_testkit::gguf::{GgmlDType, GgufWriter, TypeOf, Vocabulary, q4_k_m, uniform};
use modelgate_testkit::{model_files, requests};
use serde::Deserialize;
use std::error::Error;
use std::path::Path;
use std::sync::Mutex;

/// The text of the default perplexity, in the folder of fixtures.
const BUILT_IN_TEXT: &str = "text/perplexity.txt";

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
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    println!(
        "| model | quantization | bytes | bits per weight | perplexity | KL divergence | answers |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    // cargo adds a flag to the arguments of the user
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.split_first() {
        None => bundled(&fixtures.join("tiny")),
        Some((folder, files)) => given(&fixtures.join(BUILT_IN_TEXT), Path::new(folder), files),
    }
}

/// Returns a request to load a model to the device in `MODELGATE_DEVICE`, or to the CPU.
fn load(files: ModelFiles, scheme: Scheme) -> Result<Request, Box<dyn Error>> {
    let device = std::env::var("MODELGATE_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    Ok(Request { devices: vec![device.parse()?], ..requests::load(files, scheme) })
}

/// Measures the model in `folder` in each quantization, then GGUF files of the same model, each given
/// as `FILE.gguf=SCHEME`, with the text at `text`.
fn given(text: &Path, folder: &Path, files: &[String]) -> Result<(), Box<dyn Error>> {
    let questions = Questions { text: std::fs::read_to_string(text)?, facts: Vec::new() };
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut reference = None;
    for scheme in Scheme::UNIFORM {
        let request = load(model_files::safetensors_folder(folder), scheme)?;
        row(&name, &scheme.to_string(), &request, &questions, &mut reference)?;
    }
    for file in files {
        let (path, scheme) = file.split_once('=').ok_or("expected FILE.gguf=SCHEME")?;
        let scheme = Scheme::from_name(scheme).ok_or("expected the name of a quantization")?;
        let request = load(model_files::gguf(Path::new(path)), scheme)?;
        row(&name, &format!("{scheme}, GGUF"), &request, &questions, &mut reference)?;
    }
    Ok(())
}

/// Measures the bundled tiny models in `fixtures`.
fn bundled(fixtures: &Path) -> Result<(), Box<dyn Error>> {
    let questions = Questions {
        text: std::fs::read_to_string(fixtures.join("perplexity.txt"))?,
        facts: serde_json::from_str(&std::fs::read_to_string(fixtures.join("facts.json"))?)?,
    };
    for name in ["llama", "mixtral", "qwen2.5-omni"] {
        let folder = fixtures.join(name);
        let mut reference = None;
        for scheme in Scheme::UNIFORM {
            let request = load(model_files::safetensors_folder(&folder), scheme)?;
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
            let request = load(model_files::gguf(&written[0]), scheme)?;
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
    let answers = match questions.facts.len() {
        0 => "not asked".to_owned(),
        all => format!("{right} of {all}"),
    };
    println!(
        "| {name} | {form} | {bytes} | {:.2} | {value:.4} | {:.2e} | {answers} |",
        bytes as f64 * 8.0 / weights as f64,
        mean_divergence(reference, &log_probabilities),
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

//! What each quantization does to a bundled tiny model: bytes, bits per weight, perplexity, KL
//! divergence to f32 and answers still right, as the Markdown table of the README.
//!
//! `cargo run --release -p modelgate-engine --example quantization_damage [FOLDER] [TEXT] [FACTS]`

use modelgate_engine::{Model, answer, perplexity};
use modelgate_protocol::{
    ContentPart, Device, Event, Failure, GenerationRequest, Message, ModelFiles, PROTOCOL_VERSION,
    Request, Scheme, Tensor, WeightFormat,
};
use serde::Deserialize;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A question and the words that a right answer holds.
#[derive(Deserialize)]
struct Fact {
    question: String,
    answer: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny");
    let argument = |index: usize, default: &str| {
        std::env::args_os().nth(index).map_or_else(|| fixtures.join(default), PathBuf::from)
    };
    let folder = argument(1, "llama");
    let text = std::fs::read_to_string(argument(2, "perplexity.txt"))?;
    let facts: Vec<Fact> =
        serde_json::from_str(&std::fs::read_to_string(argument(3, "facts.json"))?)?;

    println!("| quantization | bytes | bits per weight | perplexity | KL divergence | answers |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut reference = None;
    for scheme in Scheme::UNIFORM {
        let tensors = Mutex::new(Vec::new());
        let keep = |event: Event| {
            if let Event::Tensor(tensor) = event
                && let Ok(mut tensors) = tensors.lock()
            {
                tensors.push(tensor);
            }
        };
        let mut model = Model::load(&request(&folder, scheme), &keep)?;
        let log_probabilities = log_probabilities(&mut model, &text)?;
        let reference = reference.get_or_insert_with(|| log_probabilities.clone());
        let right = right_answers(&mut model, &facts)?;
        let value = perplexity(&mut model, &text, &|_| {})?.value.map_or(f64::NAN, |v| v.get());
        let tensors = tensors.into_inner()?;
        let bytes: u64 = tensors.iter().map(|tensor| tensor.bytes).sum();
        let weights: u64 = tensors.iter().map(Tensor::elements).sum();
        println!(
            "| {scheme} | {bytes} | {:.2} | {value:.4} | {:.2e} | {right} of {} |",
            bytes as f64 * 8.0 / weights as f64,
            divergence(reference, &log_probabilities),
            facts.len()
        );
    }
    Ok(())
}

fn request(folder: &Path, quantization: Scheme) -> Request {
    let beside = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    Request {
        protocol: PROTOCOL_VERSION,
        model: folder.display().to_string(),
        files: ModelFiles {
            root: folder.to_owned(),
            format: WeightFormat::Safetensors,
            weights: beside("model.safetensors").into_iter().collect(),
            index: beside("model.safetensors.index.json"),
            config: beside("config.json"),
            generation_config: beside("generation_config.json"),
            tokenizer: beside("tokenizer.json"),
            tokenizer_config: beside("tokenizer_config.json"),
            chat_template: beside("chat_template.jinja"),
        },
        quantization,
        devices: vec![Device::Cpu],
        context: None,
        generations: Vec::new(),
        perplexity_text: None,
    }
}

/// Log-probabilities of every token at every position of the text, in f64.
fn log_probabilities(model: &mut Model, text: &str) -> Result<Vec<Vec<f64>>, Box<dyn Error>> {
    model.reset();
    let tokens = model.encode(text, true)?;
    let logits = model.forward(&tokens, 0)?.to_vec2::<f32>()?;
    Ok(logits.iter().map(|row| log_softmax(row)).collect())
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    logits.iter().map(|logit| f64::from(logit - highest) - sum.ln()).collect()
}

/// Mean over positions of the Kullback-Leibler divergence from `reference` to `other`, in nats.
fn divergence(reference: &[Vec<f64>], other: &[Vec<f64>]) -> f64 {
    let at = |(p, q): (&Vec<f64>, &Vec<f64>)| -> f64 {
        p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
    };
    reference.iter().zip(other).map(at).sum::<f64>() / reference.len() as f64
}

fn right_answers(model: &mut Model, facts: &[Fact]) -> Result<usize, Failure> {
    let mut right = 0;
    for fact in facts {
        let request = GenerationRequest {
            name: fact.question.clone(),
            messages: vec![Message {
                role: "user".into(),
                content: vec![ContentPart::Text(fact.question.clone())],
            }],
            max_tokens: 128,
        };
        let text = answer(model, &request, &|_| {})?.text.to_lowercase();
        right += usize::from(text.contains(&fact.answer.to_lowercase()));
    }
    Ok(right)
}

//! Shared code of the tests of the engine: the tiny model, requests for model folders, and events.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use modelgate_engine::Model;
use modelgate_protocol::{
    Event, Failure, GenerationRequest, Message, ModelFiles, Request, Scheme, Tensor,
};
use modelgate_testkit::gguf::{GgmlDType, GgufWriter, Vocabulary, uniform};
use modelgate_testkit::shapes::write_random_model;
use modelgate_testkit::{model_files, requests};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Returns the folder of fixtures of the repository.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// Returns the bundled tiny Llama.
pub fn tiny() -> PathBuf {
    fixtures().join("tiny/llama")
}

/// Returns a request for the safetensors model in `dir`.
pub fn request(dir: &Path, quantization: Scheme) -> Request {
    with_context(model_files::safetensors_folder(dir), quantization)
}

/// Returns a request for a GGUF file with the tokenizer of the tiny model.
pub fn gguf_request(file: &Path, quantization: Scheme) -> Request {
    with_context(model_files::gguf_with_companions(file, &tiny()), quantization)
}

/// Returns a request for a GGUF file only.
pub fn gguf_alone(file: &Path, quantization: Scheme) -> Request {
    with_context(model_files::gguf(file), quantization)
}

fn with_context(files: ModelFiles, quantization: Scheme) -> Request {
    Request { context: Some(2048), ..requests::load(files, quantization) }
}

/// Writes a minimal model with `rows` tokens and random weights into `dir`, with the tokenizer in the
/// folder `tokenizer`. For tests that use only the tokenizer.
pub fn write_minimal_model(dir: &Path, rows: u64, tokenizer: &Path) {
    let config = serde_json::json!({
        "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32,
        "num_attention_heads": 1, "vocab_size": rows, "max_position_embeddings": 2048,
    });
    write_random_model(dir, &config.to_string(), 1, tokenizer);
}

/// Writes the model in `dir` as a GGUF file with `vocabulary`, and returns a request for that file
/// only.
pub fn gguf_with_vocabulary(dir: &Path, vocabulary: Vocabulary) -> Request {
    let dtype = uniform(GgmlDType::F32);
    let file = dir.join("model.gguf");
    GgufWriter { vocabulary, ..GgufWriter::new(&dtype) }.write(dir, &file);
    gguf_alone(&file, Scheme::None)
}

/// Loads a model, and returns the outcome with all events.
pub fn load(request: &Request) -> (Result<Model, Failure>, Vec<Event>) {
    let events = Mutex::new(Vec::new());
    let model = Model::load(request, &|event| events.lock().unwrap().push(event));
    (model, events.into_inner().unwrap())
}

/// Loads a model that must load.
pub fn loaded(request: &Request) -> Model {
    load(request).0.unwrap_or_else(|failure| panic!("{failure}"))
}

/// Returns the failure of a model that must not load.
pub fn failed(request: &Request) -> Failure {
    load(request).0.err().expect("expected a failure")
}

/// Returns the inventory among events, by name.
pub fn inventory(events: &[Event]) -> Vec<Tensor> {
    let tensor = |event: &Event| match event {
        Event::Tensor(tensor) => Some(tensor.clone()),
        _ => None,
    };
    let mut list: Vec<Tensor> = events.iter().filter_map(tensor).collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

/// Returns the messages of a golden chat; `None` for a bare text.
pub fn messages(golden: &Value) -> Option<Vec<Message>> {
    let text = |turn: &Value, key: &str| turn[key].as_str().unwrap().to_owned();
    let turns = golden["messages"].as_array()?;
    let message = |turn| requests::message(&text(turn, "role"), &text(turn, "content"));
    Some(turns.iter().map(message).collect())
}

/// Returns one question of a user.
pub fn question(text: &str) -> GenerationRequest {
    requests::question(text, 32)
}

/// Returns logits as rows.
pub fn rows(logits: &candle_core::Tensor) -> Vec<Vec<f32>> {
    logits.to_vec2().unwrap()
}

/// Returns a file's SHA-256 in hexadecimal.
pub fn sha256(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    hex::encode(Sha256::digest(bytes))
}

/// Returns the largest difference of two tables. Panics on NaN, which a comparison would not detect.
pub fn largest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert!(a.iter().chain(b).flatten().all(|value| value.is_finite()));
    assert_eq!((a.len(), a[0].len()), (b.len(), b[0].len()));
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

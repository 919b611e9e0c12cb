//! What the engine's tests share: the tiny model, requests for model folders, events kept.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use modelgate_engine::Model;
use modelgate_protocol::{
    ContentPart, Device, Event, Evidence, Failure, GenerationRequest, Message, ModelFiles,
    PROTOCOL_VERSION, Request, Scheme, Tensor, WeightFormat,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The repository's fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// The bundled tiny Llama.
pub fn tiny() -> PathBuf {
    fixtures().join("tiny/llama")
}

/// A request for the safetensors model in `dir`.
pub fn request(dir: &Path, quantization: Scheme) -> Request {
    let index = dir.join("model.safetensors.index.json");
    Request {
        protocol: PROTOCOL_VERSION,
        model: "test".into(),
        files: ModelFiles {
            format: WeightFormat::Safetensors,
            weights: modelgate_testkit::safetensors_edit::shard_files(dir),
            index: index.is_file().then_some(index),
            config: Some(dir.join("config.json")),
            ..beside(dir)
        },
        evidence: Evidence::Real,
        quantization,
        devices: vec![Device::Cpu],
        device_limit: None,
        context: Some(2048),
        generations: Vec::new(),
        perplexity_text: None,
    }
}

/// A request for a GGUF file with the tokenizer of the tiny model.
pub fn gguf_request(file: &Path, quantization: Scheme) -> Request {
    let mut request = request(&tiny(), quantization);
    request.files = ModelFiles {
        root: file.parent().unwrap().to_owned(),
        format: WeightFormat::Gguf,
        weights: vec![file.to_owned()],
        ..beside(&tiny())
    };
    request
}

/// A request for a GGUF file with nothing beside it.
pub fn gguf_alone(file: &Path, quantization: Scheme) -> Request {
    let mut request = gguf_request(file, quantization);
    request.files = ModelFiles {
        generation_config: None,
        tokenizer: None,
        tokenizer_config: None,
        chat_template: None,
        ..request.files
    };
    request
}

fn beside(dir: &Path) -> ModelFiles {
    let existing = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
    ModelFiles {
        root: dir.to_owned(),
        format: WeightFormat::Safetensors,
        weights: Vec::new(),
        index: None,
        config: None,
        generation_config: existing("generation_config.json"),
        tokenizer: existing("tokenizer.json"),
        tokenizer_config: existing("tokenizer_config.json"),
        chat_template: existing("chat_template.jinja").or(existing("chat_template.json")),
        page_cache_fraction: None,
    }
}

/// Loads, and gives what was told beside the outcome.
pub fn load(request: &Request) -> (Result<Model, Failure>, Vec<Event>) {
    let events = Mutex::new(Vec::new());
    let model = Model::load(request, &|event| events.lock().unwrap().push(event));
    (model, events.into_inner().unwrap())
}

/// Loads what must load.
pub fn loaded(request: &Request) -> Model {
    load(request).0.unwrap_or_else(|failure| panic!("{failure}"))
}

/// The failure of what must not load.
pub fn failed(request: &Request) -> Failure {
    load(request).0.err().expect("expected a failure")
}

/// The inventory among events, by name.
pub fn inventory(events: &[Event]) -> Vec<Tensor> {
    let tensor = |event: &Event| match event {
        Event::Tensor(tensor) => Some(tensor.clone()),
        _ => None,
    };
    let mut list: Vec<Tensor> = events.iter().filter_map(tensor).collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

/// A turn of one text.
pub fn message(role: &str, text: &str) -> Message {
    Message { role: role.into(), content: vec![ContentPart::Text(text.into())] }
}

/// The messages of a golden chat; none for a bare text.
pub fn messages(golden: &Value) -> Option<Vec<Message>> {
    let text = |turn: &Value, key: &str| turn[key].as_str().unwrap().to_owned();
    let turns = golden["messages"].as_array()?;
    Some(turns.iter().map(|turn| message(&text(turn, "role"), &text(turn, "content"))).collect())
}

/// One question of a user.
pub fn question(text: &str) -> GenerationRequest {
    GenerationRequest {
        name: text.into(),
        messages: vec![message("user", text)],
        tokens: Vec::new(),
        max_tokens: 32,
    }
}

/// Logits as rows.
pub fn rows(logits: &candle_core::Tensor) -> Vec<Vec<f32>> {
    logits.to_vec2().unwrap()
}

/// A file's SHA-256 in hexadecimal.
pub fn sha256(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The largest difference of two tables, none of whose values may be NaN, which no comparison
/// would see.
pub fn largest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert!(a.iter().chain(b).flatten().all(|value| value.is_finite()));
    assert_eq!((a.len(), a[0].len()), (b.len(), b[0].len()));
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

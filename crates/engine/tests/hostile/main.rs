//! Hostile files: a thousand mutations of each kind of file, and what nobody hits upon at random. Each is
//! an error or a load of what the file says, within five seconds and a gigabyte. A test binary of its
//! own, since its allocator gives no more than that.

#![allow(clippy::unwrap_used)]

mod config;
mod gguf;
mod nested;
mod outcomes;
mod safetensors;
mod templates;
mod tokenizer;

use modelgate_engine::Model;
use modelgate_protocol::{
    Device, Event, Evidence, Failure, ModelFiles, PROTOCOL_VERSION, Request, Scheme, Tensor,
    WeightFormat,
};
use modelgate_testkit::limits::Limited;
use std::path::Path;
use std::sync::Mutex;

#[global_allocator]
static MEMORY: Limited = Limited;

/// The files of the model in `dir`.
fn files(dir: &Path) -> ModelFiles {
    let existing = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
    ModelFiles {
        root: dir.to_owned(),
        format: WeightFormat::Safetensors,
        weights: vec![dir.join("model.safetensors")],
        index: existing("model.safetensors.index.json"),
        config: existing("config.json"),
        generation_config: existing("generation_config.json"),
        tokenizer: existing("tokenizer.json"),
        tokenizer_config: existing("tokenizer_config.json"),
        chat_template: existing("chat_template.jinja"),
        page_cache_fraction: None,
    }
}

/// Those of a GGUF file with nothing beside it.
fn gguf_files(file: &Path) -> ModelFiles {
    ModelFiles {
        root: file.parent().unwrap().to_owned(),
        format: WeightFormat::Gguf,
        weights: vec![file.to_owned()],
        index: None,
        config: None,
        generation_config: None,
        tokenizer: None,
        tokenizer_config: None,
        chat_template: None,
        page_cache_fraction: None,
    }
}

/// Loads a model as the worker does, and gives what became resident.
fn load(files: &ModelFiles) -> Result<(Model, Vec<Tensor>), Failure> {
    let request = Request {
        protocol: PROTOCOL_VERSION,
        model: "hostile".into(),
        files: files.clone(),
        evidence: Evidence::Real,
        quantization: Scheme::None,
        devices: vec![Device::Cpu],
        device_limit: None,
        context: None,
        generations: Vec::new(),
        perplexity_text: None,
    };
    let tensors = Mutex::new(Vec::new());
    let model = Model::load(&request, &|event| {
        if let Event::Tensor(tensor) = event {
            tensors.lock().unwrap().push(tensor);
        }
    })?;
    let mut tensors = tensors.into_inner().unwrap();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((model, tensors))
}

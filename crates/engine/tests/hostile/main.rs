//! Hostile files: 1,000 mutations of each kind of file, and files that mutations do not reach. Each file
//! either fails or loads with the values that it contains, within 5 seconds and 1 GiB. A separate test
//! binary, because its allocator enforces this limit.

#![allow(clippy::unwrap_used)]

mod config;
mod gguf;
mod nested;
mod outcomes;
mod safetensors;
mod templates;
mod tokenizer;

use modelgate_engine::Model;
use modelgate_protocol::{Event, Failure, ModelFiles, Scheme, Tensor};
use modelgate_testkit::limits::LimitedAllocator;
use modelgate_testkit::model_files::{gguf as gguf_files, safetensors_folder as files};
use modelgate_testkit::requests;
use std::sync::Mutex;

#[global_allocator]
static MEMORY: LimitedAllocator = LimitedAllocator;

/// Loads a model as the worker does, and returns it with its inventory.
fn load(files: &ModelFiles) -> Result<(Model, Vec<Tensor>), Failure> {
    let request = requests::load(files.clone(), Scheme::None);
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

//! Loads files of random weights, as `cargo xtask synthesize` writes them, and compares the logits with
//! those of the model of candle-transformers.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use common::{inventory, largest_difference, load, loaded, request, rows};
use modelgate_protocol::{DType, Request, Scheme, WeightFormat};
use modelgate_testkit::gguf::{Experts, GgmlDType, uniform};
use modelgate_testkit::synthetic::{write_gguf, write_safetensors};
use modelgate_testkit::tokenizers::numbered;
use std::path::Path;

const LLAMA: &str = r#"{
    "model_type": "llama", "num_hidden_layers": 3, "hidden_size": 256, "intermediate_size": 512,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 600, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 2048, "rope_theta": 10000.0, "tie_word_embeddings": false
}"#;

const MIXTRAL: &str = r#"{
    "model_type": "mixtral", "num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 512,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 600, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 2048, "rope_theta": 10000.0, "tie_word_embeddings": false,
    "num_local_experts": 4, "num_experts_per_tok": 2
}"#;

fn tokens() -> Vec<u32> {
    (0..40).map(|n| n * 13 % 600).collect()
}

/// Writes a tokenizer into the folder, and returns a request for its model.
fn request_for(dir: &Path, gguf: Option<&Path>, scheme: Scheme) -> Request {
    std::fs::write(dir.join("tokenizer.json"), numbered(600)).unwrap();
    let mut request = request(dir, scheme);
    if let Some(file) = gguf {
        request.files.format = WeightFormat::Gguf;
        request.files.weights = vec![file.to_owned()];
        request.files.config = None;
    }
    request
}

/// Returns the largest absolute value of the logits.
fn largest(rows: &[Vec<f32>]) -> f32 {
    assert!(rows.iter().flatten().all(|logit| logit.is_finite()));
    rows.iter().flatten().fold(0.0, |largest, logit| largest.max(logit.abs()))
}

#[test]
fn a_sharded_checkpoint_is_loaded_and_quantized() {
    for (config, scheme) in [(LLAMA, Scheme::None), (LLAMA, Scheme::Q4K), (MIXTRAL, Scheme::Q8_0)] {
        let dir = tempfile::tempdir().unwrap();
        let files = write_safetensors(config, dir.path(), 1_000_000, 1, &|_, _| {}).unwrap();
        assert!(files.len() > 1);
        let (model, events) = load(&request_for(dir.path(), None, scheme));
        let logits = rows(&model.unwrap().forward(&tokens(), 0).unwrap());
        assert!((1.0..20.0).contains(&largest(&logits)), "{}", largest(&logits));
        for tensor in inventory(&events) {
            assert_eq!(tensor.non_finite, 0, "{}", tensor.name);
            assert_eq!(tensor.source_dtype, DType::Bf16, "{}", tensor.name);
        }
    }
}

#[test]
fn a_gguf_file_of_every_type_matches_candle_transformers() {
    for (config, dtype) in [
        (LLAMA, GgmlDType::F32),
        (LLAMA, GgmlDType::Q4_0),
        (LLAMA, GgmlDType::Q4_1),
        (LLAMA, GgmlDType::Q5_0),
        (LLAMA, GgmlDType::Q5_1),
        (LLAMA, GgmlDType::Q8_0),
        (LLAMA, GgmlDType::Q2K),
        (LLAMA, GgmlDType::Q3K),
        (LLAMA, GgmlDType::Q4K),
        (LLAMA, GgmlDType::Q5K),
        (LLAMA, GgmlDType::Q6K),
        (MIXTRAL, GgmlDType::Q4_0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.gguf");
        write_gguf(config, &file, &uniform(dtype), Experts::Separate, 1, &|_, _| {}).unwrap();
        let mut ours = loaded(&request_for(dir.path(), Some(&file), Scheme::None));
        let ours = ours.last_logits(&tokens(), 0).unwrap().to_vec1::<f32>().unwrap();

        let mut reader = std::fs::File::open(&file).unwrap();
        let content = Content::read(&mut reader).unwrap();
        let mut theirs = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu).unwrap();
        let input = Tensor::new(tokens(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let theirs = theirs.forward(&input, 0).unwrap().squeeze(0).unwrap();
        let theirs = theirs.to_vec1::<f32>().unwrap();
        assert!((1.0..20.0).contains(&largest(std::slice::from_ref(&theirs))));
        let difference = largest_difference(&[ours], &[theirs]);
        println!("{dtype:?}: {difference:e}");
        // Both sides round activations to 8 bits before a product, but in different blocks.
        let bound = if dtype == GgmlDType::F32 { 1e-4 } else { 0.2 };
        assert!(difference <= bound, "{dtype:?}: {difference}");
    }
}

#[test]
fn merged_experts_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.gguf");
    let types = uniform(GgmlDType::Q4K);
    write_gguf(MIXTRAL, &file, &types, Experts::Merged, 1, &|_, _| {}).unwrap();
    let mut model = loaded(&request_for(dir.path(), Some(&file), Scheme::None));
    let logits = rows(&model.forward(&tokens(), 0).unwrap());
    assert!((1.0..20.0).contains(&largest(&logits)));
}

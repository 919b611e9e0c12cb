//! Compares GGUF files with llama.cpp on the same weights (`scripts/golden/from_llama_cpp.py`).

#![allow(clippy::unwrap_used)]

mod common;

use common::{fixtures, gguf_alone, loaded, request, rows, sha256};
use modelgate_engine::Model;
use modelgate_protocol::Scheme;
use modelgate_testkit::distributions::{divergence, log_softmax};
use modelgate_testkit::gguf::{Experts, GgmlDType, GgufWriter, Vocabulary, uniform};
use modelgate_testkit::safetensors_edit::{RawTensor, Shard, read_model, read_shard, write_shard};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The maximum KL divergence of a row from that of llama.cpp, in nats, with f16 weights.
const DIVERGENCE: f64 = 1e-3;

#[derive(Deserialize)]
struct Golden {
    models: Vec<Entry>,
    files: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Entry {
    model: String,
    prompts: Vec<Prompt>,
    weights_sha256: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Prompt {
    name: String,
    token_ids: Vec<u32>,
    positions: Vec<usize>,
}

fn golden() -> (Golden, Shard) {
    let folder = fixtures().join("golden/llama_cpp");
    let text = std::fs::read_to_string(folder.join("logits.json")).unwrap();
    (serde_json::from_str(&text).unwrap(), read_shard(&folder.join("logits.safetensors")))
}

fn at_positions(model: &mut Model, prompt: &Prompt) -> Vec<Vec<f32>> {
    model.reset();
    let all = rows(&model.forward(&prompt.token_ids, 0).unwrap());
    prompt.positions.iter().map(|at| all[*at].clone()).collect()
}

fn best(row: &[f32]) -> usize {
    assert!(row.iter().all(|logit| logit.is_finite()));
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap()
}

/// Returns the KL divergence of every row of `found` from `expected`, in nats. Asserts that the best
/// tokens are equal.
fn divergences(expected: &[Vec<f32>], found: &[Vec<f32>], what: &str) -> Vec<f64> {
    assert_eq!(expected.len(), found.len());
    let pairs = expected.iter().zip(found);
    pairs
        .map(|(expected, found)| {
            assert_eq!(best(found), best(expected), "{what}");
            divergence(&log_softmax(expected), &log_softmax(found))
        })
        .collect()
}

/// Returns the KL divergences of a model from the golden logits of all prompts, in nats.
fn from_golden(entry: &Entry, form: &str, logits: &Shard, model: &mut Model) -> Vec<f64> {
    let of_prompt = |prompt: &Prompt| {
        let name = format!("{}/{form}/{}", entry.model, prompt.name);
        divergences(&logits[&name].rows(), &at_positions(model, prompt), &name)
    };
    entry.prompts.iter().flat_map(of_prompt).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Returns the folders of a golden model. llama.cpp evaluated the text model of the Omni model as
/// `qwen2`. Here, it is written as `qwen2` and as `qwen2vl`, which are two architectures of GGUF files.
fn folders(model: &str, scratch: &Path) -> Vec<PathBuf> {
    let folder = fixtures().join("tiny").join(model.strip_prefix("tiny-").unwrap());
    match model {
        "tiny-qwen2.5-omni" => {
            let qwen2 = as_qwen2(&folder, &scratch.join("qwen2"));
            vec![folder, qwen2]
        }
        _ => vec![folder],
    }
}

/// Writes the text model of an Omni thinker as a Qwen2 model.
fn as_qwen2(omni: &Path, target: &Path) -> PathBuf {
    std::fs::create_dir_all(target).unwrap();
    let text = |shard: Shard| {
        let own = |(name, raw): (String, RawTensor)| {
            let name = name.strip_prefix("thinker.")?.to_owned();
            (name.starts_with("model.") || name.starts_with("lm_head.")).then_some((name, raw))
        };
        shard.into_iter().filter_map(own).collect::<Shard>()
    };
    write_shard(&target.join("model.safetensors"), &text(read_model(omni)));
    let config = std::fs::read_to_string(omni.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let mut config = config["thinker_config"]["text_config"].clone();
    config["model_type"] = "qwen2".into();
    std::fs::write(target.join("config.json"), config.to_string()).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.json"] {
        std::fs::copy(omni.join(name), target.join(name)).unwrap();
    }
    target.to_owned()
}

/// Writes a model as a GGUF file of three parts with a tokenizer, experts as `experts`.
fn written(model: &Path, dir: &Path, dtype: GgmlDType, experts: Experts) -> Vec<PathBuf> {
    let dtype = uniform(dtype);
    let vocabulary = Vocabulary::OfSourceFolder;
    GgufWriter { dtype: &dtype, experts, parts: 3, vocabulary }.write(model, &dir.join("m.gguf"))
}

fn loaded_parts(parts: &[PathBuf], scheme: Scheme) -> Model {
    let mut request = gguf_alone(&parts[0], scheme);
    // In any order: each part contains its number.
    request.files.weights = parts.iter().rev().cloned().collect();
    loaded(&request)
}

#[test]
fn tokens_and_distributions_of_f16_files_match_llama_cpp() {
    let (golden, logits) = golden();
    assert_eq!(golden.models.len(), 3);
    for entry in &golden.models {
        let dir = tempfile::tempdir().unwrap();
        let forms = folders(&entry.model, dir.path())
            .into_iter()
            .flat_map(|folder| [(folder.clone(), Experts::Merged), (folder, Experts::Separate)]);
        for (folder, experts) in forms {
            let parts = written(&folder, dir.path(), GgmlDType::F16, experts);
            let mut model = loaded_parts(&parts, Scheme::None);
            let found = from_golden(entry, "f16", &logits, &mut model);
            let largest = found.into_iter().fold(0.0, f64::max);
            println!("{}, {experts:?}: largest divergence {largest:e}", entry.model);
            assert!(largest < DIVERGENCE, "{}: {largest}", entry.model);
        }
    }
}

#[test]
fn logits_of_gguf_files_match_the_safetensors_files_within_the_error_of_the_type() {
    let (golden, _) = golden();
    for entry in &golden.models {
        let dir = tempfile::tempdir().unwrap();
        let folder = folders(&entry.model, dir.path()).remove(0);
        for (dtype, scheme, most) in
            [(GgmlDType::F16, Scheme::None, 1e-9), (GgmlDType::Q8_0, Scheme::Q8_0, 1e-5)]
        {
            let mut reference = loaded(&request(&folder, scheme));
            let [merged, separate] = [Experts::Merged, Experts::Separate].map(|experts| {
                let parts = written(&folder, dir.path(), dtype, experts);
                let mut model = loaded_parts(&parts, scheme);
                let of_prompt = |prompt: &Prompt| {
                    let expected = at_positions(&mut reference, prompt);
                    divergences(&expected, &at_positions(&mut model, prompt), &prompt.name)
                };
                entry.prompts.iter().flat_map(of_prompt).collect::<Vec<f64>>()
            });
            let mean = mean(&merged);
            println!("{} in {scheme}: mean divergence {mean:e}, merged and separate", entry.model);
            assert!(mean < most, "{}: {mean}", entry.model);
            assert_eq!(merged, separate, "{}: merged or separate is the same", entry.model);
        }
    }
}

#[test]
fn q8_0_files_match_llama_cpp_within_its_rounding_of_activations() {
    let (golden, logits) = golden();
    for entry in &golden.models {
        let dir = tempfile::tempdir().unwrap();
        let folder = folders(&entry.model, dir.path()).remove(0);
        let parts = written(&folder, dir.path(), GgmlDType::Q8_0, Experts::Merged);
        let mut model = loaded_parts(&parts, Scheme::Q8_0);
        let found = from_golden(entry, "q8_0", &logits, &mut model);
        let mean = mean(&found);
        println!("{}: mean divergence {mean:e} over {} rows", entry.model, found.len());
        assert!(mean < 1e-3, "{}: {mean}", entry.model);
    }
}

#[test]
fn logits_of_a_file_quantized_by_llama_cpp_match_its_logits() {
    let (golden, logits) = golden();
    let entry = golden.models.iter().find(|entry| entry.model == "tiny-llama").unwrap();
    let file = fixtures().join("golden/llama_cpp/tiny-llama-q4_k_m.gguf");
    let mut model = loaded(&gguf_alone(&file, Scheme::Q4KM));
    // Of the same blocks, with activations in f32.
    let found = from_golden(entry, "q4_k_m-dequantized", &logits, &mut model);
    let mean = mean(&found);
    println!("mean divergence {mean:e} over {} rows", found.len());
    assert!(mean < 1e-3, "{mean}");
}

#[test]
fn the_golden_data_match_the_weights() {
    let (golden, _) = golden();
    let folder = fixtures().join("golden/llama_cpp");
    for (name, hash) in &golden.files {
        assert_eq!(Some(sha256(&folder.join(name)).as_str()), hash.as_str(), "{name}");
    }
    for entry in &golden.models {
        for (name, hash) in &entry.weights_sha256 {
            let model = entry.model.strip_prefix("tiny-").unwrap();
            let path = fixtures().join("tiny").join(model).join(name);
            assert_eq!(&sha256(&path), hash, "{name}: run scripts/golden/from_llama_cpp.py");
        }
    }
}

//! Tests that every tiny model passes all checks in every format: safetensors that are quantized
//! during the load, GGUF files that contain the tokenizer, and a file that llama.cpp quantized.

use crate::common::{Run, entry, fixture};
use modelgate_model::Config;
use modelgate_testkit::gguf::{Experts, GgmlDType, GgufWriter, Vocabulary, q4_k_m, uniform};
use std::path::Path;

/// Asserts that a tiny model passes all checks in six combinations of format and quantization.
fn assert_passes_in_every_format(family: &str) {
    let folder = fixture(&format!("tiny/{family}"));
    let config = std::fs::read_to_string(folder.join("config.json")).expect("config.json");
    let config = Config::from_json(&config).expect("a config");
    let files = tempfile::tempdir().expect("a folder");
    let (mut ids, mut models) = (Vec::new(), String::new());
    let mut add = |format: &str, path: &Path, scheme: &str| {
        let id = format!("{family}@{format}-{scheme}");
        models += &entry(&id, path, scheme, "");
        ids.push(id);
    };
    for scheme in ["none", "q8_0", "q4_k"] {
        add("safetensors", &folder, scheme);
    }
    // each file in a separate folder, so that only the file itself describes the model
    let mut write = |scheme: &str, parts: usize, dtype: &dyn Fn(&str, &[usize]) -> GgmlDType| {
        let alone = files.path().join(scheme);
        std::fs::create_dir(&alone).expect("a folder");
        let writer = GgufWriter {
            dtype,
            experts: if parts > 1 { Experts::Separate } else { Experts::Merged },
            parts,
            vocabulary: Vocabulary::OfSourceFolder,
        };
        let written = writer.write(&folder, &alone.join("model.gguf"));
        add("gguf", written.last().expect("a file"), scheme);
    };
    write("q4_k", 1, &uniform(GgmlDType::Q4K));
    write("q4_k_m", 1, &q4_k_m(&config));
    write("q8_0", 3, &uniform(GgmlDType::Q8_0));

    let ended = Run::manifest(&models).run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    assert_eq!(ids.len(), 6);
    for id in ids {
        ended.assert_passes(&id);
    }
}

#[test]
fn tiny_llama_passes_in_every_format() {
    assert_passes_in_every_format("llama");
}

#[test]
fn tiny_mixtral_passes_in_every_format() {
    assert_passes_in_every_format("mixtral");
}

#[test]
fn tiny_qwen2_5_omni_passes_in_every_format() {
    assert_passes_in_every_format("qwen2.5-omni");
}

#[test]
fn a_q4_k_m_file_from_llama_cpp_passes() {
    let file = fixture("golden/llama_cpp/tiny-llama-q4_k_m.gguf");
    let ended = Run::manifest(&entry("mix", &file, "q4_k_m", "")).run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    ended.assert_passes("mix");
    let types = &ended.model("mix").measurement.tensors.by_type;
    assert!(types.contains_key("q4_k") && types.contains_key("q6_k"), "{types:?}");
}

#[test]
fn omitted_parts_are_listed_in_verdict_and_summary() {
    let folder = fixture("tiny/qwen2.5-omni");
    let ended = Run::manifest(&entry("omni", &folder, "q8_0", "")).run();
    let model = ended.model("omni");
    assert_eq!(model.measurement.parts, ["text"]);
    assert_eq!(model.measurement.tensors.omitted.len(), 2);
    let load = &model.checks[0];
    assert!(load.observed.contains("parts: text"), "{}", load.observed);
    assert!(load.observed.contains("vision tower"), "{}", load.observed);
    let summary = ended.summary.as_deref().expect("a summary");
    assert!(summary.contains("Parts: text."), "{summary}");
    assert!(summary.contains("Omitted: audio tower"), "{summary}");
}

//! Tests that the GGUF files of the testkit are equivalent to those that llama.cpp writes.

#![allow(clippy::unwrap_used)]

use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value};
use modelgate_model::Config;
use modelgate_testkit::gguf::{Experts, GgmlDType, GgufWriter, Vocabulary, q4_k_m, uniform};
use modelgate_testkit::safetensors_edit::{RawTensor, read_model};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn family(name: &str) -> PathBuf {
    fixtures().join("golden/families").join(name)
}

fn header(path: &Path) -> Content {
    let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Content::read(&mut file).unwrap()
}

fn metadata(content: &Content) -> BTreeMap<String, String> {
    content.metadata.iter().map(|(key, value)| (key.clone(), format!("{value:?}"))).collect()
}

fn values(path: &Path, name: &str) -> Vec<f32> {
    let mut file = File::open(path).unwrap();
    let tensor = header(path).tensor(&mut file, name, &Device::Cpu).unwrap();
    let tensor = tensor.dequantize(&Device::Cpu).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Converts a model to f32 with a writer that `change` modifies, and returns the written files.
fn convert(dir: &Path, source: &Path, change: impl Fn(&mut GgufWriter)) -> Vec<PathBuf> {
    let dtype = uniform(GgmlDType::F32);
    let mut writer = GgufWriter::new(&dtype);
    change(&mut writer);
    writer.write(source, &dir.join("model.gguf"))
}

#[test]
fn q4_k_m_selects_the_same_types_as_llama_cpp() {
    let text = std::fs::read_to_string(fixtures().join("golden/llama_cpp/logits.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    for entry in golden["models"].as_array().unwrap() {
        let name = entry["model"].as_str().unwrap().strip_prefix("tiny-").unwrap();
        let source = fixtures().join("tiny").join(name);
        let config = std::fs::read_to_string(source.join("config.json")).unwrap();
        let mix = q4_k_m(&Config::from_json(&config).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.gguf");
        GgufWriter::new(&mix).write(&source, &file);
        let found: BTreeMap<String, String> = header(&file)
            .tensor_infos
            .into_iter()
            .map(|(name, info)| (name, format!("{:?}", info.ggml_dtype).to_lowercase()))
            .collect();
        let expected: BTreeMap<String, String> =
            serde_json::from_value(entry["q4_k_m_types"].clone()).unwrap();
        let expected: BTreeMap<String, String> =
            expected.into_iter().map(|(name, dtype)| (name, dtype.replace("_k", "k"))).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn tokenizer_metadata_equal_those_of_llama_cpp() {
    for (name, folder) in [
        ("tiny-llama", "llama"),
        ("tiny-mixtral", "mixtral"),
        ("tiny-qwen2.5-omni", "qwen2.5-omni"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let source = fixtures().join("tiny").join(folder);
        let file =
            convert(dir.path(), &source, |writer| writer.vocabulary = Vocabulary::OfSourceFolder);
        let expected = fixtures().join(format!("golden/llama_cpp/{name}.vocab.gguf"));
        let expected = metadata(&header(&expected));
        let found = metadata(&header(&file[0]));
        let is_tokenizer_key = |key: &&String| key.starts_with("tokenizer.");
        assert!(found.keys().filter(is_tokenizer_key).count() >= 8, "{name}");
        for key in found.keys().filter(is_tokenizer_key) {
            assert_eq!(found.get(key), expected.get(key), "{name}: {key}");
        }
    }
}

#[test]
fn experts_are_written_merged_or_in_separate_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let source = family("mixtral");
    let merged = convert(dir.path(), &source, |_| ()).remove(0);
    let content = header(&merged);
    assert_eq!(content.metadata["llama.expert_count"].to_u32().unwrap(), 8);
    assert_eq!(content.metadata["llama.expert_used_count"].to_u32().unwrap(), 2);
    assert_eq!(content.tensor_infos["blk.1.ffn_gate_inp.weight"].shape.dims(), [8, 64]);
    assert_eq!(content.tensor_infos["blk.1.ffn_down_exps.weight"].shape.dims(), [8, 64, 96]);
    let all = values(&merged, "blk.1.ffn_gate_exps.weight");
    let separate =
        convert(dir.path(), &source, |writer| writer.experts = Experts::Separate).remove(0);
    assert!(!header(&separate).tensor_infos.contains_key("blk.1.ffn_gate_exps.weight"));
    for (expert, part) in all.chunks(all.len() / 8).enumerate() {
        assert_eq!(values(&separate, &format!("blk.1.ffn_gate.{expert}.weight")), part);
    }
}

#[test]
fn rows_of_q_are_permuted_only_for_llama() {
    let first = |name: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = convert(dir.path(), &family(name), |_| ()).remove(0);
        values(&file, "blk.0.attn_q.weight")
    };
    let original = |name: &str, tensor: &str| read_model(&family(name))[tensor].to_f32();
    let q = "model.layers.0.self_attn.q_proj.weight";
    assert_eq!(first("qwen2"), original("qwen2", q));
    assert_eq!(first("omni"), original("omni", &format!("thinker.{q}")));
    let (found, expected) = (first("llama"), original("llama", q));
    let columns = 64;
    assert_eq!(found[..columns], expected[..columns]);
    assert_ne!(found[columns..2 * columns], expected[columns..2 * columns]);
}

#[test]
fn only_the_text_model_of_an_omni_model_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = convert(dir.path(), &family("omni"), |_| ()).remove(0);
    let content = header(&file);
    assert_eq!(content.metadata["general.architecture"].to_string().unwrap(), "qwen2vl");
    let sections = content.metadata["qwen2vl.rope.dimension_sections"].to_vec().unwrap();
    assert_eq!(sections.len(), 4);
    assert!(sections.iter().all(|section| matches!(section, Value::I32(_))));
    assert!(content.tensor_infos.contains_key("blk.0.attn_q.bias"));
    let text_tensors: BTreeMap<String, RawTensor> = read_model(&family("omni"))
        .into_iter()
        .filter(|(name, _)| {
            name.starts_with("thinker.model.") || name.starts_with("thinker.lm_head")
        })
        .collect();
    assert_eq!(content.tensor_infos.len(), text_tensors.len());
}

#[test]
fn every_tensor_is_in_exactly_one_part() {
    let dir = tempfile::tempdir().unwrap();
    let single = header(&convert(dir.path(), &family("llama"), |_| ()).remove(0));
    let parts = convert(dir.path(), &family("llama"), |writer| writer.parts = 3);
    let mut names = Vec::new();
    for (number, path) in parts.iter().enumerate() {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(file, format!("model-{:05}-of-00003.gguf", number + 1));
        let content = header(path);
        let split = |key: &str| format!("{:?}", content.metadata[key]);
        assert_eq!(split("split.no"), format!("U16({number})"));
        assert_eq!(split("split.count"), "U16(3)");
        assert_eq!(split("split.tensors.count"), format!("I32({})", single.tensor_infos.len()));
        assert_eq!(content.metadata.contains_key("general.architecture"), number == 0);
        assert!(!content.tensor_infos.is_empty());
        names.extend(content.tensor_infos.into_keys());
    }
    names.sort();
    let mut expected: Vec<String> = single.tensor_infos.into_keys().collect();
    expected.sort();
    assert_eq!(names, expected);
}

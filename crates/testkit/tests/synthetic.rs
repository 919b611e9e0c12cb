//! Tests that files of random weights contain every tensor of their config, with the right type,
//! and values whose variance keeps the scale of activations.

#![allow(clippy::unwrap_used)]

use candle_core::Device;
use candle_core::quantized::gguf_file::Content;
use modelgate_model::{Config, tensors};
use modelgate_testkit::gguf::{Experts, GgmlDType, GgufWriter, uniform};
use modelgate_testkit::safetensors_edit::{INDEX, RawTensor, read_model, read_shard, shard_files};
use modelgate_testkit::synthetic::{write_gguf, write_safetensors};
use safetensors::Dtype;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const LLAMA: &str = r#"{
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 512, "intermediate_size": 1024,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 2048, "rope_theta": 10000.0, "tie_word_embeddings": false,
    "eos_token_id": 7, "rope_scaling": { "rope_type": "llama3", "factor": 8.0,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 256 }
}"#;

const QWEN2: &str = r#"{
    "model_type": "qwen2", "num_hidden_layers": 1, "hidden_size": 256, "intermediate_size": 512,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 600, "rms_norm_eps": 1e-6,
    "max_position_embeddings": 2048, "rope_theta": 10000.0, "tie_word_embeddings": true
}"#;

const MIXTRAL: &str = r#"{
    "model_type": "mixtral", "num_hidden_layers": 1, "hidden_size": 256, "intermediate_size": 512,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 600, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 2048, "rope_theta": 10000.0, "tie_word_embeddings": false,
    "num_local_experts": 4, "num_experts_per_tok": 2
}"#;

fn header(path: &Path) -> Content {
    Content::read(&mut File::open(path).unwrap()).unwrap()
}

fn gguf(config: &str, dtype: GgmlDType, experts: Experts) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    write_gguf(config, &path, &uniform(dtype), experts, 1, &|_, _| {}).unwrap();
    (dir, path)
}

/// Asserts that the values have the distribution that fits the tensor `name`. `row` is the length
/// of a row; `tied` says whether the embedding is also the output matrix.
fn assert_values(name: &str, values: &[f32], row: usize, tied: bool) {
    assert!(values.iter().all(|value| value.is_finite()), "{name}");
    if name.contains("norm") {
        assert!(values.iter().all(|value| *value == 1.0), "{name}");
        return;
    }
    if name.ends_with(".bias") {
        assert!(values.iter().all(|value| *value == 0.0), "{name}");
        return;
    }
    let embedding = name.contains("embd") || name.contains("embed_tokens");
    let expected = if embedding && !tied { 1.0 } else { 1.0 / (row as f64).sqrt() };
    let count = values.len() as f64;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let square = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / count;
    let found = square.sqrt() / expected;
    assert!((found - 1.0).abs() < 0.1, "{name}: {found} times the expected deviation");
    // 6 standard deviations of the mean, and more for large tensors, because the values of a block
    // are correlated by their common scale.
    let bound = 0.02f64.max(6.0 / count.sqrt());
    assert!((mean / expected).abs() < bound, "{name}: mean {mean}");
}

#[test]
fn the_index_lists_the_shard_of_every_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let files = write_safetensors(LLAMA, dir.path(), 3_000_000, 1, &|_, _| {}).unwrap();
    assert!(files.len() >= 3, "{files:?}");
    assert_eq!(files, shard_files(dir.path()));
    let last = files.last().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(last, format!("model-{0:05}-of-{0:05}.safetensors", files.len()));
    let config = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
    assert_eq!(config, LLAMA);

    let index = std::fs::read_to_string(dir.path().join(INDEX)).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let model = read_model(dir.path());
    let total: usize = model.values().map(|tensor| tensor.data.len()).sum();
    assert_eq!(index["metadata"]["total_size"], total);
    for file in &files {
        let shard = read_shard(file);
        assert!(shard.values().map(|tensor| tensor.data.len()).sum::<usize>() <= 3_000_000);
        for name in shard.keys() {
            let named = index["weight_map"][name].as_str().unwrap();
            assert_eq!(file.file_name().unwrap(), named, "{name}");
        }
    }
    let expected: BTreeMap<String, Vec<usize>> = tensors(&Config::from_json(LLAMA).unwrap())
        .into_iter()
        .map(|tensor| (tensor.name, tensor.shape))
        .collect();
    let found: BTreeMap<String, Vec<usize>> =
        model.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    assert_eq!(found, expected);
    for (name, RawTensor { dtype, shape, .. }) in &model {
        assert_eq!(*dtype, Dtype::BF16, "{name}");
        assert_values(name, &model[name].to_f32(), *shape.last().unwrap(), false);
    }
}

#[test]
fn weights_depend_on_the_seed_and_not_on_the_shards() {
    let written = |shard_bytes: u64, seed: u64| {
        let dir = tempfile::tempdir().unwrap();
        write_safetensors(QWEN2, dir.path(), shard_bytes, seed, &|_, _| {}).unwrap();
        let data = |(name, tensor): (String, RawTensor)| (name, tensor.data);
        let data: BTreeMap<String, Vec<u8>> =
            read_model(dir.path()).into_iter().map(data).collect();
        (data, dir.path().join(INDEX).is_file())
    };
    let (single, index) = written(u64::MAX, 1);
    assert!(!index, "a single file has no index");
    assert_eq!(written(300_000, 1), (single.clone(), true));
    let other = written(u64::MAX, 2).0;
    let q = "model.layers.0.self_attn.q_proj.weight";
    assert_ne!(single[q], other[q]);
    assert_ne!(single[q], single["model.layers.0.self_attn.o_proj.weight"]);
}

#[test]
fn metadata_and_shapes_of_a_gguf_file_equal_those_of_the_converter() {
    for (config, dtype, experts) in [
        (LLAMA, GgmlDType::Q4_0, Experts::Merged),
        (LLAMA, GgmlDType::Q4K, Experts::Merged),
        (QWEN2, GgmlDType::Q8_0, Experts::Merged),
        (MIXTRAL, GgmlDType::Q4K, Experts::Merged),
        (MIXTRAL, GgmlDType::Q6K, Experts::Separate),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write_safetensors(config, folder.path(), u64::MAX, 1, &|_, _| {}).unwrap();
        let converted = folder.path().join("converted.gguf");
        let types = uniform(dtype);
        GgufWriter { experts, ..GgufWriter::new(&types) }.write(folder.path(), &converted);
        let (_dir, path) = gguf(config, dtype, experts);
        let (found, expected) = (header(&path), header(&converted));
        let metadata = |content: &Content| -> BTreeMap<String, String> {
            let shown = content.metadata.iter();
            shown.map(|(key, value)| (key.clone(), format!("{value:?}"))).collect()
        };
        assert_eq!(metadata(&found), metadata(&expected));
        let infos = |content: &Content| -> BTreeMap<String, String> {
            let shown = content.tensor_infos.iter();
            let shown = shown.map(|(name, info)| {
                (name.clone(), format!("{:?} {:?}", info.shape.dims(), info.ggml_dtype))
            });
            shown.collect()
        };
        assert_eq!(infos(&found), infos(&expected));
    }
}

#[test]
fn values_of_a_gguf_file_have_the_expected_deviation() {
    for (config, dtype, experts) in [
        (LLAMA, GgmlDType::Q4_0, Experts::Merged),
        (LLAMA, GgmlDType::Q8_0, Experts::Merged),
        (LLAMA, GgmlDType::Q4K, Experts::Merged),
        (QWEN2, GgmlDType::Q5K, Experts::Merged),
        (MIXTRAL, GgmlDType::Q4K, Experts::Merged),
        (MIXTRAL, GgmlDType::Q8_0, Experts::Separate),
    ] {
        let (_dir, path) = gguf(config, dtype, experts);
        let content = header(&path);
        let mut file = File::open(&path).unwrap();
        for name in content.tensor_infos.keys() {
            let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
            let row = *tensor.shape().dims().last().unwrap();
            let tensor = tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap();
            let values: Vec<f32> = tensor.to_vec1().unwrap();
            if name == "rope_freqs.weight" {
                assert_eq!((values[0], *values.last().unwrap()), (1.0, 8.0));
            } else {
                assert_values(name, &values, row, config == QWEN2);
            }
        }
    }
}

#[test]
fn progress_ends_at_the_total_size_and_no_partial_file_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let reported = Mutex::new((0, 0));
    let progress = |written: u64, total: u64| {
        let mut reported = reported.lock().unwrap();
        *reported = (reported.0.max(written), total);
    };
    let files = write_safetensors(LLAMA, dir.path(), 2_000_000, 1, &progress).unwrap();
    let total: u64 = files.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    assert_eq!(*reported.lock().unwrap(), (total, total));
    let part = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().path().extension().is_some_and(|extension| extension == "part")
    };
    assert!(!std::fs::read_dir(dir.path()).unwrap().any(part));
}

#[test]
fn a_file_that_cannot_be_completed_is_removed_and_named() {
    let dir = tempfile::tempdir().unwrap();
    // A folder with the name of the file makes the final rename fail.
    let path = dir.path().join("model.gguf");
    std::fs::create_dir(&path).unwrap();
    let types = uniform(GgmlDType::Q4_0);
    let error = write_gguf(QWEN2, &path, &types, Experts::Separate, 1, &|_, _| {}).unwrap_err();
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_model_larger_than_the_free_space_is_refused_before_writing() {
    let dir = tempfile::tempdir().unwrap();
    let huge = LLAMA
        .replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4000")
        .replace("\"intermediate_size\": 1024", "\"intermediate_size\": 16000000");
    let path = dir.path().join("model.gguf");
    let error =
        write_gguf(&huge, &path, &uniform(GgmlDType::Q4_0), Experts::Separate, 1, &|_, _| {})
            .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    assert!(error.to_string().contains("bytes are needed"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

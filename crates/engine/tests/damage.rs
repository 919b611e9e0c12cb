//! Damaged and mismatched files: each causes a failure of the correct kind that names the file and the
//! tensor.

#![allow(clippy::unwrap_used)]

mod common;

use common::{failed, load, request, tiny};
use modelgate_protocol::{Event, Failure, FailureKind, Scheme, Stage};
use modelgate_testkit::safetensors_edit::{
    INDEX, RawTensor, add_tensor, copy_model, drop_tensor, drop_tensor_but_not_from_index, edit,
    edit_index, file_of, rename_tensor, reshape_tensor, truncate,
};
use safetensors::Dtype;
use serde_json::json;
use std::fs;
use std::path::Path;

const SECOND: &str = "model-00002-of-00002.safetensors";
const LAST_NORM: &str = "model.norm.weight";

fn refused(dir: &Path, kind: FailureKind, words: &[&str]) -> Failure {
    let failure = failed(&request(dir, Scheme::Q8_0));
    assert_eq!(failure.kind, kind, "{failure}");
    assert_eq!(failure.stage, Stage::Load);
    for word in words {
        assert!(failure.message.contains(word), "\"{word}\" in: {}", failure.message);
    }
    failure
}

/// Sets a key of `config.json`.
fn configure(dir: &Path, key: &str, value: serde_json::Value) {
    let path = dir.join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn a_truncated_shard_is_reported() {
    let dir = copy_model(&tiny());
    let file = dir.path().join(SECOND);
    let size = fs::metadata(&file).unwrap().len();
    truncate(&file, size - 1000);
    let (size, less) = (size.to_string(), (size - 1000).to_string());
    refused(dir.path(), FailureKind::Corrupt, &[SECOND, "truncated", &size, &less]);
    truncate(&file, 5);
    refused(dir.path(), FailureKind::Corrupt, &[SECOND, "5 bytes"]);
}

#[test]
fn bytes_after_the_last_tensor_are_reported() {
    let dir = copy_model(&tiny());
    let file = dir.path().join(SECOND);
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend([0; 8]);
    fs::write(&file, bytes).unwrap();
    refused(dir.path(), FailureKind::Corrupt, &[SECOND, "too long"]);
}

#[test]
fn impossible_headers_are_reported() {
    let dir = copy_model(&tiny());
    let file = dir.path().join(SECOND);
    let sound = fs::read(&file).unwrap();
    for length in [u64::MAX, 1 << 40, sound.len() as u64] {
        let mut bytes = sound.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        fs::write(&file, &bytes).unwrap();
        let (length, size) = (length.to_string(), sound.len().to_string());
        refused(dir.path(), FailureKind::Corrupt, &[SECOND, &length, &size]);
    }
    let overlap = json!({
        "a": { "dtype": "F32", "shape": [2], "data_offsets": [0, 8] },
        "b": { "dtype": "F32", "shape": [2], "data_offsets": [4, 12] },
    });
    let huge = json!({
        "a": { "dtype": "F32", "shape": [1u64 << 40, 1u64 << 40], "data_offsets": [0, 8] },
    });
    for header in [overlap.to_string(), huge.to_string(), "{".into(), "[1, 2]".into()] {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 12]);
        fs::write(&file, &bytes).unwrap();
        refused(dir.path(), FailureKind::Corrupt, &[SECOND]);
    }
}

#[test]
fn a_missing_shard_is_reported() {
    let dir = copy_model(&tiny());
    fs::remove_file(dir.path().join(SECOND)).unwrap();
    refused(dir.path(), FailureKind::NotFound, &[SECOND, INDEX]);
}

#[test]
fn an_index_path_outside_the_folder_is_refused() {
    for name in ["../model.safetensors", "/etc/passwd", "sub/model.safetensors"] {
        let dir = copy_model(&tiny());
        edit_index(dir.path(), |map| {
            map.insert(LAST_NORM.into(), json!(name));
        });
        refused(dir.path(), FailureKind::Corrupt, &[INDEX, LAST_NORM, name]);
    }
}

#[test]
fn a_tensor_that_only_the_index_contains_is_reported_with_its_shard() {
    let dir = copy_model(&tiny());
    let file = file_of(dir.path(), LAST_NORM);
    drop_tensor_but_not_from_index(dir.path(), LAST_NORM);
    let file = file.file_name().unwrap().to_str().unwrap();
    let failure = refused(dir.path(), FailureKind::TensorMissing, &[LAST_NORM, file, INDEX]);
    assert!(failure.hint.contains(file), "{}", failure.hint);
}

#[test]
fn a_malformed_index_is_reported() {
    for text in ["", "{}", "[]", "{\"weight_map\": 3}"] {
        let dir = copy_model(&tiny());
        fs::write(dir.path().join(INDEX), text).unwrap();
        refused(dir.path(), FailureKind::Corrupt, &[INDEX]);
    }
}

#[test]
fn a_missing_tensor_is_reported() {
    let dir = copy_model(&tiny());
    drop_tensor(dir.path(), LAST_NORM);
    let words = [LAST_NORM, "[256]", "model-00001", SECOND];
    let failure = refused(dir.path(), FailureKind::TensorMissing, &words);
    // nothing shows whether the tensor was lost
    assert_eq!(failure.hint, "");
}

#[test]
fn a_tensor_of_an_unexpected_shape_is_reported() {
    let dir = copy_model(&tiny());
    let name = "model.layers.2.mlp.up_proj.weight";
    reshape_tensor(dir.path(), name, &[256, 512]);
    let words = [name, "[512, 256]", "[256, 512]", ".safetensors"];
    refused(dir.path(), FailureKind::TensorShape, &words);
}

#[test]
fn unused_tensors_are_reported() {
    let dir = copy_model(&tiny());
    for number in 0..5 {
        add_tensor(dir.path(), &format!("adapter.{number}"), &[4]);
    }
    let words = ["5 tensors", "adapter.0", "adapter.2", "and 2 more", ".safetensors"];
    let failure = refused(dir.path(), FailureKind::TensorUnexpected, &words);
    assert_eq!(failure.hint, "");
    let dir = copy_model(&tiny());
    configure(dir.path(), "num_hidden_layers", json!(3));
    let failure = refused(dir.path(), FailureKind::TensorUnexpected, &["model.layers.3."]);
    assert!(failure.hint.contains("config"), "{}", failure.hint);
    let dir = copy_model(&tiny());
    rename_tensor(dir.path(), LAST_NORM, "model.final_norm.weight");
    refused(dir.path(), FailureKind::TensorMissing, &[LAST_NORM]);
}

#[test]
fn harmless_unused_tensors_are_listed_in_a_warning() {
    let dir = copy_model(&tiny());
    add_tensor(dir.path(), "model.layers.0.self_attn.rotary_emb.inv_freq", &[16]);
    let (model, events) = load(&request(dir.path(), Scheme::Q8_0));
    assert!(model.is_ok());
    let omitted = events.iter().find_map(|event| match event {
        Event::Omitted(omitted) => Some(omitted.clone()),
        _ => None,
    });
    let omitted = omitted.unwrap();
    assert_eq!((omitted.tensors, omitted.bytes), (1, 64));
    configure(dir.path(), "tie_word_embeddings", json!(true));
    let (model, events) = load(&request(dir.path(), Scheme::Q8_0));
    assert!(model.is_ok());
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Omitted(_))).count(), 2);
}

#[test]
fn an_unsupported_dtype_is_reported() {
    let dir = copy_model(&tiny());
    let file = dir.path().join(SECOND);
    let mut bytes = fs::read(&file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    // Of the same width, so that the rest of the file stays valid.
    bytes.splice(8..8 + length, header.replacen("\"BF16\"", "\"I16\" ", 1).into_bytes());
    fs::write(&file, bytes).unwrap();
    refused(dir.path(), FailureKind::Unsupported, &[SECOND, "i16"]);
}

#[test]
fn a_config_of_another_model_is_reported() {
    let cases = [
        ("model_type", json!("mamba"), FailureKind::Unsupported, "mamba"),
        (
            "quantization_config",
            json!({ "quant_method": "gptq" }),
            FailureKind::Unsupported,
            "gptq",
        ),
        ("num_hidden_layers", json!(5), FailureKind::TensorMissing, "model.layers.4."),
        ("num_hidden_layers", json!(4096), FailureKind::TensorMissing, "4096 layers"),
        ("hidden_size", json!(128), FailureKind::TensorShape, "128"),
        ("hidden_size", json!(null), FailureKind::Corrupt, "hidden_size"),
        ("vocab_size", json!(1 << 20), FailureKind::Tokenizer, "1048576"),
        ("vocab_size", json!(490), FailureKind::Tokenizer, "490"),
        // above the ids of the vocabulary, and below those of the added tokens
        ("vocab_size", json!(500), FailureKind::TensorShape, "500"),
        ("max_position_embeddings", json!(1000), FailureKind::ContextLength, "2048"),
    ];
    for (key, value, kind, word) in cases {
        let dir = copy_model(&tiny());
        configure(dir.path(), key, value);
        refused(dir.path(), kind, &[word]);
    }
}

#[test]
fn missing_experts_are_reported() {
    let dir = copy_model(&tiny());
    configure(dir.path(), "model_type", json!("mixtral"));
    configure(dir.path(), "num_local_experts", json!(8));
    configure(dir.path(), "num_experts_per_tok", json!(2));
    refused(dir.path(), FailureKind::TensorMissing, &["block_sparse_moe.gate"]);
}

#[test]
fn a_gguf_mix_is_refused_for_safetensors_files() {
    let failure = common::failed(&request(&tiny(), Scheme::Q4KM));
    assert_eq!(failure.kind, FailureKind::Unsupported);
    assert!(failure.message.contains("q4_k_m"), "{failure}");
    assert!(failure.hint.contains("\"q4_k\""), "{}", failure.hint);
}

/// Files of other formats in the place of a file of the model: the content, the words of the message,
/// and those of the hint.
const OTHER_FORMATS: [(&str, &str, &str); 2] = [
    (
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\
         adbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n",
        "Git LFS",
        "git lfs pull",
    ),
    ("<!DOCTYPE html>\n<html><body>Log in</body></html>\n", "HTML page", "/resolve/"),
];

#[test]
fn pointer_files_of_git_lfs_and_web_pages_are_named() {
    for (content, found, hint) in OTHER_FORMATS {
        for file in [SECOND, INDEX, "config.json", "generation_config.json", "tokenizer.json"] {
            let dir = copy_model(&tiny());
            fs::write(dir.path().join(file), content).unwrap();
            let failure = failed(&request(dir.path(), Scheme::Q8_0));
            assert!(failure.message.contains(file), "{failure}");
            assert!(failure.message.contains(found), "{file}: {failure}");
            assert!(failure.hint.contains(hint), "{file}: {}", failure.hint);
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tiny.gguf");
        fs::write(&file, content).unwrap();
        let failure = failed(&common::gguf_request(&file, Scheme::Q8_0));
        assert!(failure.message.contains(found), "{failure}");
        assert!(failure.hint.contains(hint), "{}", failure.hint);
    }
}

#[test]
fn a_big_endian_gguf_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tiny.gguf");
    // the beginning of a file of gguf-py with `endianess=GGUFEndian.BIG`
    let header = [b"GGUF".as_slice(), &3u32.to_be_bytes(), &[0; 16]].concat();
    fs::write(&file, header).unwrap();
    let failure = failed(&common::gguf_request(&file, Scheme::Q8_0));
    assert_eq!(failure.kind, FailureKind::Unsupported);
    assert!(failure.message.contains("big-endian"), "{failure}");
}

#[test]
fn weights_that_mlx_quantized_are_named() {
    // 4 bits in groups of 64, as `mlx_lm.convert -q` writes them
    let dir = copy_model(&tiny());
    let name = "model.layers.0.mlp.up_proj";
    edit(dir.path(), &format!("{name}.weight"), |shard| {
        let tensor = |dtype, columns: usize, bytes: usize| RawTensor {
            dtype,
            shape: vec![512, columns],
            data: vec![0; 512 * columns * bytes],
        };
        shard.insert(format!("{name}.weight"), tensor(Dtype::U32, 256 * 4 / 32, 4));
        shard.insert(format!("{name}.scales"), tensor(Dtype::BF16, 256 / 64, 2));
        shard.insert(format!("{name}.biases"), tensor(Dtype::BF16, 256 / 64, 2));
    });
    let words = ["MLX", "model.layers.0.mlp.up_proj.scales", "32 words", "4 groups"];
    refused(dir.path(), FailureKind::Unsupported, &words);
    let parameters = json!({ "group_size": 64, "bits": 4 });
    configure(dir.path(), "quantization_config", parameters);
    refused(dir.path(), FailureKind::Unsupported, &["MLX", "4 bits in groups of 64"]);
}

#[test]
fn a_symlink_without_its_target_is_named() {
    for file in [SECOND, INDEX, "config.json", "tokenizer.json"] {
        let dir = copy_model(&tiny());
        let mut wanted = request(dir.path(), Scheme::Q8_0);
        wanted.context = Some(2048);
        fs::remove_file(dir.path().join(file)).unwrap();
        std::os::unix::fs::symlink("../../blobs/4d7a2146", dir.path().join(file)).unwrap();
        let failure = failed(&wanted);
        assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
        for word in [file, "../../blobs/4d7a2146", "symlink"] {
            assert!(failure.message.contains(word), "\"{word}\" in: {failure}");
        }
    }
}

#[test]
fn a_missing_or_damaged_tokenizer_is_reported() {
    let dir = copy_model(&tiny());
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    refused(dir.path(), FailureKind::Tokenizer, &["tokenizer.json"]);
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    refused(dir.path(), FailureKind::Tokenizer, &["tokenizer.json"]);
}

#[test]
fn a_chat_without_a_template_or_room_is_refused() {
    let dir = copy_model(&tiny());
    let mut wanted = request(dir.path(), Scheme::Q8_0);
    wanted.context = Some(40);
    let mut model = common::loaded(&wanted);
    let question = common::question("What is the capital of France?");
    let failure = modelgate_engine::answer(&mut model, &question, &|_| ()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::ContextLength);
    assert!(failure.message.contains("40") && failure.message.contains("32"), "{failure}");

    fs::write(dir.path().join("tokenizer_config.json"), "{}").unwrap();
    let mut model = common::loaded(&request(dir.path(), Scheme::Q8_0));
    let failure = modelgate_engine::answer(&mut model, &question, &|_| ()).unwrap_err();
    assert_eq!((failure.kind, failure.stage), (FailureKind::Tokenizer, Stage::Generate));
    assert!(failure.message.contains("tokenizer_config.json"), "{failure}");
}

//! Tests that a defect of a model fails `load` (or the check that examines it), with a message that
//! contains the file and the tensor. The other checks of the model are blocked, and the next model
//! is still measured.

use crate::common::{FinishedRun, Run, entry, fixture};
use modelgate_harness::check::{Check, Status};
use modelgate_protocol::FailureKind;
use modelgate_testkit::gguf::{self, GgmlDType};
use modelgate_testkit::safetensors_edit as edit;

use std::path::Path;
use tempfile::TempDir;

const SHARD: &str = "model-00001-of-00002.safetensors";
const Q_PROJ: &str = "model.layers.0.self_attn.q_proj.weight";

/// Runs the damaged model at `path` and then a valid model, which must pass.
fn run(path: &Path, quantization: &str) -> FinishedRun {
    let valid = entry("valid", &fixture("tiny/llama"), "q8_0", "");
    let ended = Run::manifest(&(entry("damaged", path, quantization, "") + &valid)).run();
    ended.assert_passes("valid");
    ended
}

/// Damages a copy of the tiny model and asserts that its load fails with `kind`.
fn assert_damage_is_reported(
    damage: impl FnOnce(&Path),
    kind: FailureKind,
    message_parts: &[&str],
) {
    let model = edit::copy_model(&fixture("tiny/llama"));
    damage(model.path());
    assert_load_fails(&run(model.path(), "q8_0"), kind, message_parts);
}

fn assert_load_fails(ended: &FinishedRun, kind: FailureKind, message_parts: &[&str]) {
    let message = ended.assert_only_fails("damaged", Check::Load, Status::Blocked);
    let failure = ended.model("damaged").measurement.failure.as_ref().expect("a failure");
    assert_eq!(failure.kind, kind, "{failure}");
    for part in message_parts {
        assert!(message.contains(part), "expected {part:?} in {message}");
    }
}

#[test]
fn a_path_without_a_model_is_reported() {
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("notes.txt"), "nothing").expect("a file");
    let path = folder.path().to_owned();
    assert_load_fails(
        &run(&path, "q8_0"),
        FailureKind::NotFound,
        &[&path.display().to_string(), "notes.txt"],
    );
    assert_load_fails(&run(&path.join("nowhere"), "q8_0"), FailureKind::NotFound, &["nowhere"]);
    assert_load_fails(&run(&path.join("notes.txt"), "q8_0"), FailureKind::NotFound, &["notes.txt"]);
}

#[test]
fn an_unknown_architecture_is_reported() {
    assert_damage_is_reported(
        |dir| change_config(dir, "model_type", "\"gpt2\"".into()),
        FailureKind::Unsupported,
        &["config.json", "gpt2", "llama"],
    );
}

#[test]
fn a_quantized_checkpoint_is_reported() {
    assert_damage_is_reported(
        |dir| change_config(dir, "quantization_config", r#"{"quant_method": "awq"}"#.into()),
        FailureKind::Unsupported,
        &["config.json", "quantization_config", "awq"],
    );
}

#[test]
fn a_missing_tensor_is_reported() {
    assert_damage_is_reported(
        |dir| edit::drop_tensor(dir, Q_PROJ),
        FailureKind::TensorMissing,
        &[Q_PROJ, "[256, 256]", SHARD],
    );
    assert_damage_is_reported(
        |dir| edit::drop_tensor_but_not_from_index(dir, Q_PROJ),
        FailureKind::TensorMissing,
        &[Q_PROJ, SHARD],
    );
}

#[test]
fn a_tensor_of_the_wrong_shape_is_reported() {
    assert_damage_is_reported(
        |dir| edit::reshape_tensor(dir, Q_PROJ, &[512, 128]),
        FailureKind::TensorShape,
        &[Q_PROJ, SHARD, "[512, 128]", "[256, 256]"],
    );
}

#[test]
fn an_unexpected_tensor_is_reported() {
    assert_damage_is_reported(
        |dir| edit::add_tensor(dir, "model.layers.0.self_attn.extra.weight", &[4, 256]),
        FailureKind::TensorUnexpected,
        &["model.layers.0.self_attn.extra.weight", SHARD],
    );
}

#[test]
fn a_truncated_shard_is_reported() {
    assert_damage_is_reported(
        |dir| edit::truncate(&dir.join(SHARD), 100_000),
        FailureKind::Corrupt,
        &[SHARD, "100000"],
    );
}

#[test]
fn a_missing_shard_is_reported() {
    assert_damage_is_reported(
        |dir| std::fs::remove_file(dir.join(SHARD)).expect("removed"),
        FailureKind::NotFound,
        &[SHARD, "model.embed_tokens.weight"],
    );
}

#[test]
fn an_index_with_a_path_outside_the_folder_is_reported() {
    assert_damage_is_reported(
        |dir| {
            edit::edit_index(dir, |map| {
                map.insert(Q_PROJ.into(), "../secret.safetensors".into());
            });
        },
        FailureKind::Corrupt,
        &["model.safetensors.index.json", Q_PROJ, "../secret.safetensors"],
    );
}

#[test]
fn an_impossible_header_length_is_reported() {
    for length in [u64::MAX, 1 << 40, 5_000_000] {
        assert_damage_is_reported(
            |dir| {
                let path = dir.join(SHARD);
                let mut bytes = std::fs::read(&path).expect("a shard");
                bytes[..8].copy_from_slice(&length.to_le_bytes());
                std::fs::write(&path, bytes).expect("written");
            },
            FailureKind::Corrupt,
            &[SHARD, &length.to_string()],
        );
    }
}

#[test]
fn nan_and_infinite_values_are_reported() {
    for value in [f32::NAN, f32::INFINITY] {
        assert_damage_is_reported(
            |dir| edit::set_value(dir, Q_PROJ, 4321, value),
            FailureKind::NonFinite,
            &[Q_PROJ, SHARD],
        );
    }
}

#[test]
fn a_tensor_of_zeros_is_reported() {
    assert_damage_is_reported(
        |dir| edit::scale_tensor(dir, Q_PROJ, 0.0),
        FailureKind::Corrupt,
        &[Q_PROJ, SHARD, "only zeros"],
    );
}

#[test]
fn impossible_sizes_in_the_config_are_reported() {
    for (key, value) in [("num_hidden_layers", "16000000"), ("hidden_size", "99999999999")] {
        assert_damage_is_reported(
            |dir| change_config(dir, key, value.into()),
            FailureKind::Corrupt,
            &["config.json", key, value],
        );
    }
}

#[test]
fn a_tokenizer_larger_than_the_vocabulary_is_reported() {
    assert_damage_is_reported(
        |dir| {
            let path = dir.join("tokenizer.json");
            let text = std::fs::read_to_string(&path).expect("a tokenizer");
            let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let added = json["added_tokens"].as_array_mut().expect("added tokens");
            let mut token = added.last().expect("a token").clone();
            token["id"] = 700.into();
            token["content"] = "<|beyond|>".into();
            added.push(token);
            // the ids must not have a gap, because the tokenizers library numbers added tokens
            let added = added.clone();
            let vocabulary = json["model"]["vocab"].as_object_mut().expect("a vocabulary");
            for token in added {
                let content = token["content"].as_str().expect("a text").to_owned();
                vocabulary.insert(content, token["id"].clone());
            }
            for id in 512..700 {
                vocabulary.insert(format!("filler{id}"), id.into());
            }
            std::fs::write(&path, json.to_string()).expect("written");
        },
        FailureKind::Tokenizer,
        &["701", "512"],
    );
}

#[test]
fn a_gguf_tensor_of_another_type_fails_quantization() {
    let folder = TempDir::new().expect("a folder");
    let tiny = fixture("tiny/llama");
    let path = folder.path().join("model.gguf");
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        std::fs::copy(tiny.join(name), folder.path().join(name)).expect("copied");
    }
    let uniform = gguf::uniform(GgmlDType::Q8_0);
    let odd = "blk.1.ffn_down.weight";
    gguf::write_from_safetensors(&tiny, &path, &|name, shape| {
        if name == odd { GgmlDType::F16 } else { uniform(name, shape) }
    });
    let ended = Run::manifest(&entry("mixed", &path, "q8_0", "")).run();
    let message = ended.assert_only_fails("mixed", Check::Quantization, Status::Passed);
    assert!(message.contains(odd) && message.contains("model.gguf"), "{message}");
    assert!(message.contains("q8_0"), "{message}");

    gguf::write_from_safetensors(&tiny, &path, &uniform);
    // a config of another model, as in many repositories of GGUF files, is not used
    std::fs::write(folder.path().join("config.json"), r#"{"model_type": "llama"}"#)
        .expect("a file");
    let ended = Run::manifest(&entry("uniform", &path, "q8_0", "")).run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    ended.assert_passes("uniform");
}

fn change_config(dir: &Path, key: &str, value: String) {
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).expect("a config");
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    json[key] = serde_json::from_str(&value).expect("JSON");
    std::fs::write(&path, json.to_string()).expect("written");
}

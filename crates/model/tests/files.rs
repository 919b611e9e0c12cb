//! The files of a model at a path: GGUF files by their content, and files that are not what they should
//! be.

#![allow(clippy::unwrap_used)]

use modelgate_model::layout::{INDEX, files, indexed, shard_name};
use modelgate_protocol::{FailureKind, WeightFormat};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const GGUF: &[u8] = b"GGUF\x03\0\0\0";
const BLOB: &str = "sha256-8eeb52dfb3bb9aefdf9d1ef24b3bdbcfbe82238798c4b918278320b6fcef18fe";

#[test]
fn a_gguf_file_of_any_name_is_recognized_by_its_content() {
    let dir = tempfile::tempdir().unwrap();
    for name in [BLOB, "4d7a2146", "model.bin", "model.GGUF"] {
        let path = dir.path().join(name);
        fs::write(&path, GGUF).unwrap();
        let found = files(&path).unwrap();
        assert_eq!((found.format, found.weights), (WeightFormat::Gguf, vec![path]), "{name}");
    }
    for (name, content, kind) in [
        ("model.txt", b"GGU".as_slice(), FailureKind::NotFound),
        ("weights.bin", b"PK\x03\x04", FailureKind::Unsupported),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        assert_eq!(files(&path).unwrap_err().kind, kind, "{name}");
    }
}

#[test]
fn a_folder_with_one_gguf_model_is_that_model() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("README.md"), "text").unwrap();
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    let blob = dir.path().join(BLOB);
    fs::write(&blob, GGUF).unwrap();
    let found = files(dir.path()).unwrap();
    assert_eq!((found.format, found.weights), (WeightFormat::Gguf, vec![blob.clone()]));
    assert_eq!(found.tokenizer, Some(dir.path().join("tokenizer.json")));
    fs::write(dir.path().join("second.gguf"), GGUF).unwrap();
    let failure = files(dir.path()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound);
    assert!(failure.hint.contains("one of the GGUF files"), "{}", failure.hint);

    let split = tempfile::tempdir().unwrap();
    let parts: Vec<_> =
        (1..=3).map(|n| split.path().join(format!("m-{n:05}-of-00003.gguf"))).collect();
    for part in &parts {
        fs::write(part, GGUF).unwrap();
    }
    assert_eq!(files(split.path()).unwrap().weights, parts);
    fs::remove_file(&parts[1]).unwrap();
    let failure = files(split.path()).unwrap_err();
    assert!(failure.message.contains("m-00002-of-00003.gguf"), "{failure}");
}

#[test]
fn a_symlink_without_its_target_is_named() {
    let refused = |dir: &Path, name: &str| {
        symlink("../../blobs/4d7a2146", dir.join(name)).unwrap();
        let failure = files(dir).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
        for word in [name, "../../blobs/4d7a2146", "symlink"] {
            assert!(failure.message.contains(word), "\"{word}\" in: {failure}");
        }
        fs::remove_file(dir.join(name)).unwrap();
    };
    let dir = tempfile::tempdir().unwrap();
    for name in [INDEX, "model.safetensors", "config.json"] {
        refused(dir.path(), name);
    }
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    fs::write(dir.path().join("model.safetensors"), "").unwrap();
    files(dir.path()).unwrap();
    // optional files, which would count as absent
    for name in ["tokenizer.json", "generation_config.json", "chat_template.jinja"] {
        refused(dir.path(), name);
    }
    let map = r#"{"weight_map": {"a": "model-00001-of-00001.safetensors"}}"#;
    fs::write(dir.path().join(INDEX), map).unwrap();
    // a single file would take precedence over the index
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    refused(dir.path(), "model-00001-of-00001.safetensors");
    let link = dir.path().join("link.gguf");
    symlink("absent.gguf", &link).unwrap();
    assert!(files(&link).unwrap_err().message.contains("absent.gguf"));
}

#[test]
fn an_index_of_another_format_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    let index = dir.path().join(INDEX);
    for (content, word, hint) in [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "LFS", "lfs pull"),
        ("<html>", "HTML", "/resolve/"),
    ] {
        fs::write(&index, content).unwrap();
        let failure = files(dir.path()).unwrap_err();
        assert!(failure.message.contains(word), "{failure}");
        assert!(failure.hint.contains(hint), "{}", failure.hint);
    }
}

#[test]
fn names_in_an_index_may_begin_with_the_current_folder() {
    assert_eq!(shard_name("././model.safetensors"), "model.safetensors");
    assert_eq!(shard_name("../model.safetensors"), "../model.safetensors");
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join(INDEX);
    let map = r#"{"metadata": {"total_size": NaN}, "weight_map": {
        "a": "./one.safetensors", "b": "one.safetensors", "c": "././two.safetensors"
    }}"#;
    fs::write(&index, map).unwrap();
    let found: Vec<String> = indexed(&index).unwrap().into_keys().collect();
    assert_eq!(found, ["one.safetensors", "two.safetensors"]);
    fs::write(&index, r#"{"weight_map": {"a": "./../x.safetensors"}}"#).unwrap();
    assert_eq!(indexed(&index).unwrap_err().kind, FailureKind::Corrupt);
}

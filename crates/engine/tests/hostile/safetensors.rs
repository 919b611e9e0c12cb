//! Mutations of a safetensors file: the tensors of a file that loads have the bytes at the offsets of its
//! header.

use crate::outcomes::{alone, bounded, thousand};
use crate::{files, load};
use modelgate_engine::Model;
use modelgate_engine::parsers::{self, TensorBytes};
use modelgate_protocol::FailureKind;
use modelgate_testkit::mutation::{Field, Mutation, decimals};
use modelgate_testkit::smallest::{self, Kind, TOKENS};
use serde_json::Value;
use std::fs;

/// Returns the tensors of a file that loads, read from its header without validation.
fn expected(bytes: &[u8]) -> Vec<TensorBytes> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut list: Vec<TensorBytes> = header
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, info)| {
            let at = |end: usize| info["data_offsets"][end].as_u64().unwrap() as usize + 8 + length;
            let dtype = info["dtype"].as_str().unwrap().to_lowercase();
            TensorBytes {
                name: name.clone(),
                shape: info["shape"].as_array().unwrap().iter().map(size).collect(),
                dtype: serde_json::from_value(dtype.into()).unwrap(),
                bytes: bytes[at(0)..at(1)].to_vec(),
            }
        })
        .collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

/// Returns the logits after four tokens.
pub(crate) fn logits(mut model: Model) -> Vec<f32> {
    model.forward(&[1, 5, 9, 5], 0).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

#[test]
fn a_thousand_mutations_of_a_safetensors_file() {
    let dir = tempfile::tempdir().unwrap();
    smallest::write(dir.path(), Kind::ByteLevel);
    let path = dir.path().join("model.safetensors");
    let sound = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
    let mut fields = decimals(&sound[..header]);
    // The length of the header is its only binary field.
    fields.extend(vec![Field::Binary(0..8); fields.len() / 4]);
    let sound_logits = logits(load(&files(dir.path())).unwrap().0);
    thousand("safetensors", &sound, header, &fields, &[Mutation::Flip], |case, bytes| {
        let mut bytes = bytes.to_vec();
        // Adjusts the length of the header, because otherwise only the length would be examined.
        if case.contains("Length") && bytes.len() != sound.len() {
            let length = (header - 8) as u64 + bytes.len() as u64 - sound.len() as u64;
            bytes[..8].copy_from_slice(&length.to_le_bytes());
        }
        fs::write(&path, &bytes).unwrap();
        let opened = parsers::safetensors(&files(dir.path()));
        let loaded = load(&files(dir.path()));
        let opened = match (opened, &loaded) {
            (Ok(opened), _) => opened,
            (Err(_), Ok(_)) => panic!("{case}: a model of a file that cannot be opened"),
            (Err(failure), Err(_)) => return Err(failure),
        };
        assert_eq!(opened, expected(&bytes), "{case}");
        let (model, resident) = loaded?;
        for tensor in &resident {
            let file = opened.iter().find(|opened| opened.name == tensor.name).unwrap();
            let shape: Vec<u64> = file.shape.iter().map(|size| *size as u64).collect();
            assert_eq!((&tensor.source_dtype, &tensor.shape), (&file.dtype, &shape), "{case}");
        }
        let found = logits(model);
        assert_eq!(found.len(), 4 * TOKENS, "{case}");
        if bytes[header..] == sound[header..] && opened == expected(&sound) {
            assert_eq!(found, sound_logits, "{case}");
        }
        Ok(())
    });
}

/// Returns a file of this header and `data` bytes of tensor data.
fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn headers_that_need_too_much_memory_are_refused() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    smallest::write(dir.path(), Kind::ByteLevel);
    let tensor =
        |shape: &str| format!(r#"{{"a":{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,1]}}}}"#);
    let names: String = (0..400_000).map(|n| format!(r#""{n}":"","#)).collect();
    for (name, header, words) in [
        ("40 million dimensions", tensor(&(["1,"; 40 << 20].concat() + "1")), "values"),
        ("a million dimensions", tensor(&(["1,"; 1 << 20].concat() + "1")), "is missing"),
        ("lists within lists, 100,000 deep", tensor(&"[".repeat(100_000)), "recursion limit"),
        ("a long name", tensor("1").replacen('a', &"a".repeat(90 << 20), 1), "is missing"),
        (
            "much metadata",
            format!(r#"{{"__metadata__":{{{names}"":""}}}}"#),
            "the file is too long",
        ),
        ("a long type", tensor("1").replacen("U8", &"U".repeat(1 << 20), 1), "unknown variant"),
    ] {
        fs::write(dir.path().join("model.safetensors"), file(&header, 1)).unwrap();
        let failure = bounded(name, || load(&files(dir.path())).map(drop)).expect_err(name);
        assert!(failure.message.contains("model.safetensors"), "{name}: {failure}");
        assert!(failure.message.contains(words), "{name}: {failure}");
        assert!(failure.message.len() < 8192, "{name}");
        assert_ne!(failure.kind, FailureKind::Internal, "{name}: {failure}");
    }
}

#[test]
fn an_index_may_only_name_files_of_its_own_folder() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    smallest::write(dir.path(), Kind::ByteLevel);
    let folder = dir.path().join("snapshot");
    let blobs = dir.path().join("blobs");
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&blobs).unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::rename(dir.path().join(name), blobs.join(name)).unwrap();
        std::os::unix::fs::symlink(format!("../blobs/{name}"), folder.join(name)).unwrap();
    }
    let opened = parsers::safetensors(&files(&folder)).unwrap();
    let index = |shard: &str| {
        let map: Value =
            opened.iter().map(|tensor| (tensor.name.clone(), Value::from(shard))).collect();
        let text = serde_json::json!({ "weight_map": map }).to_string();
        fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
        bounded(shard, || load(&files(&folder)).map(drop))
    };
    index("model.safetensors").expect("symlinks within the cache are allowed");
    for outside in
        ["../blobs/model.safetensors", "/proc/self/mem", "..", "", "a/../model.safetensors"]
    {
        let failure = index(outside).expect_err(outside);
        assert_eq!(failure.kind, FailureKind::Corrupt, "{failure}");
        assert!(failure.message.contains("name of a file in the same folder"), "{failure}");
    }
    // A file without an end.
    std::os::unix::fs::symlink("/dev/zero", folder.join("zero.safetensors")).unwrap();
    let failure = index("zero.safetensors").expect_err("no file");
    assert!(failure.message.contains("regular file"), "{failure}");
    let pairs: Vec<String> =
        (0..900_000).map(|n| format!(r#""{n}":"model.safetensors""#)).collect();
    let text = format!(r#"{{"weight_map":{{{}}}}}"#, pairs.join(","));
    fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
    bounded("a million entries", || load(&files(&folder)).map(drop))
        .expect("the index names files");
    for (name, text, words) in [
        ("too many values", format!("[{}0]", ["0,"; 1 << 21].concat()), "values"),
        ("too long", " ".repeat((32 << 20) + 1), "more than 33554432 bytes"),
    ] {
        fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
        let failure = bounded(name, || load(&files(&folder)).map(drop)).expect_err(name);
        assert!(failure.message.contains(words), "{name}: {failure}");
    }
}

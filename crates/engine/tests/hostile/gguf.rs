//! Mutations of a GGUF file with a vocabulary: the tensors of a file that loads have the bytes at the
//! offsets of its header.

use crate::outcomes::{alone, bounded, thousand};
use crate::safetensors::logits;
use crate::{gguf_files, load};
use modelgate_engine::parsers;
use modelgate_protocol::{Failure, FailureKind};
use modelgate_testkit::gguf::{GgmlDType, layout};
use modelgate_testkit::mutation::Mutation;
use modelgate_testkit::smallest::{self, Kind, TOKENS};
use std::fs;
use std::path::Path;

#[test]
fn a_thousand_mutations_of_a_gguf_file() {
    for (name, kind, dtype) in [
        ("GGUF", Kind::ByteLevel, GgmlDType::Q8_0),
        ("GGUF of pieces", Kind::Pieces, GgmlDType::F32),
    ] {
        let dir = tempfile::tempdir().unwrap();
        smallest::write(dir.path(), kind);
        let path = smallest::write_gguf(dir.path(), dtype);
        let sound = fs::read(&path).unwrap();
        let header = layout(&sound).unwrap();
        let loads = [Mutation::Flip, Mutation::Length];
        thousand(name, &sound, header.header, &header.fields, &loads, |case, bytes| {
            fs::write(&path, bytes).unwrap();
            compared(case, &path, bytes)
        });
    }
}

/// Loads the file, and compares the loaded tensors with its bytes.
fn compared(case: &str, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let opened = parsers::gguf(&gguf_files(path));
    let loaded = load(&gguf_files(path));
    let (config, tensors) = match (opened, &loaded) {
        (Ok(opened), _) => opened,
        (Err(_), Ok(_)) => panic!("{case}: a model of a file that cannot be opened"),
        (Err(failure), Err(_)) => return Err(failure),
    };
    // A bit flip can change the version to 1, which has lengths of 32 bits and another header.
    let header = layout(bytes).unwrap_or_else(|| panic!("{case}: opened without a header"));
    assert_eq!(tensors.len(), header.tensors.len(), "{case}");
    for tensor in &tensors {
        let (shape, start) = &header.tensors[&tensor.name];
        let found: Vec<u64> = tensor.shape.iter().map(|size| *size as u64).collect();
        assert_eq!(&found, shape, "{case}: {}", tensor.name);
        assert_eq!(
            tensor.bytes,
            bytes[*start..start + tensor.bytes.len()],
            "{case}: {}",
            tensor.name
        );
    }
    let (model, resident) = loaded?;
    assert_eq!(resident.len(), tensors.len(), "{case}");
    assert_eq!(model.config(), &config, "{case}");
    assert_eq!(logits(model).len(), 4 * TOKENS, "{case}");
    Ok(())
}

/// Returns a file with the architecture `llama` and these metadata, each with its type and bytes.
fn file(values: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0u64.to_le_bytes());
    bytes.extend((values.len() as u64 + 1).to_le_bytes());
    bytes.extend([text("general.architecture"), 8u32.to_le_bytes().into(), text("llama")].concat());
    for (key, kind, value) in values {
        bytes.extend([text(key), kind.to_le_bytes().into(), value.clone()].concat());
    }
    bytes
}

fn refused(name: &str, bytes: &[u8], words: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hostile.gguf");
    fs::write(&path, bytes).unwrap();
    let failure = bounded(name, || load(&gguf_files(&path)).map(drop)).expect_err(name);
    assert_eq!(failure.kind, FailureKind::Corrupt, "{name}: {failure}");
    assert!(failure.message.contains(words), "{name}: {failure}");
    assert!(failure.message.contains("hostile.gguf"), "{name}: {failure}");
}

#[test]
fn headers_that_claim_more_than_the_file_has_are_refused() {
    let _alone = alone();
    const ARRAY: u32 = 9;
    let array = |kind: u32, count: u64, mut values: Vec<u8>| {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(count.to_le_bytes());
        bytes.append(&mut values);
        (ARRAY, bytes)
    };
    let one = |(kind, bytes): (u32, Vec<u8>)| file(&[("a", kind, bytes)]);
    // Each byte of the file would need 32 bytes of memory.
    let bytes = one(array(0, 60 << 20, vec![0; 60 << 20]));
    refused("a list of 60 million bytes", &bytes, "more than 8388608 values");
    let bytes = one(array(8, 9 << 20, vec![0; 72 << 20]));
    refused("a list of 9 million empty texts", &bytes, "67108864 bytes");
    let nested = |depth: u64| {
        let level = [9u32.to_le_bytes().as_slice(), &1u64.to_le_bytes()].concat();
        let innermost = [0u32.to_le_bytes().as_slice(), &1u64.to_le_bytes(), &[7]].concat();
        (ARRAY, [level.repeat(depth as usize), innermost].concat())
    };
    refused("lists within lists, 100,000 deep", &one(nested(100_000)), "nesting depth");
    for (name, kind, bytes, words) in [
        ("an alignment of zero", 4, 0u32.to_le_bytes().to_vec(), "header"),
        ("an alignment of 3", 4, 3u32.to_le_bytes().to_vec(), "power of two"),
        ("an alignment of another type", 10, 64u64.to_le_bytes().to_vec(), "power of two"),
    ] {
        refused(name, &file(&[("general.alignment", kind, bytes)]), words);
    }
    let twice = ("a", 0, vec![1]);
    refused("a duplicated key", &file(&[twice.clone(), twice]), "is duplicated");
}

/// Returns a vocabulary of these tokens with equal scores.
fn vocabulary(tokens: Vec<String>, model: &str) -> Vec<(&'static str, u32, Vec<u8>)> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let list = |kind: u32, values: Vec<Vec<u8>>| {
        let count = (values.len() as u64).to_le_bytes();
        [kind.to_le_bytes().as_slice(), &count, &values.concat()].concat()
    };
    let scores = vec![0f32.to_le_bytes().to_vec(); tokens.len()];
    let tokens = tokens.iter().map(|token| text(token)).collect();
    vec![
        ("tokenizer.ggml.model", 8, text(model)),
        ("tokenizer.ggml.tokens", 9, list(8, tokens)),
        ("tokenizer.ggml.scores", 9, list(6, scores)),
    ]
}

#[test]
fn vocabularies_that_need_too_much_memory_are_refused() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    smallest::write(dir.path(), Kind::Pieces);
    let sound = fs::read(smallest::write_gguf(dir.path(), GgmlDType::Q8_0)).unwrap();
    let binary = |length: usize| {
        let all = (1..=length)
            .flat_map(|length| (0..1u32 << length).map(move |bits| format!("{bits:0length$b}")));
        all.collect::<Vec<String>>()
    };
    for (name, tokens, words) in [
        ("pieces that all merge pairwise", binary(17), "give more than"),
        ("a long piece", vec!["a".repeat(129)], "expected at most 128"),
        ("a long token", vec!["a".repeat(1025)], "expected at most 1024"),
        ("too many tokens", vec![String::new(); (1 << 19) + 1], "expected at most 524288"),
    ] {
        let path = dir.path().join("hostile.gguf");
        fs::write(&path, with_vocabulary(&sound, &vocabulary(tokens, "llama"))).unwrap();
        let outcome = bounded(name, || parsers::tokenizer(&gguf_files(&path), "a b").map(drop));
        let failure = outcome.expect_err(name);
        assert_eq!(failure.kind, FailureKind::Tokenizer, "{name}: {failure}");
        assert!(failure.message.contains(words), "{name}: {failure}");
    }
}

/// Returns the valid file with its tokenizer keys renamed and with `values` in their place.
fn with_vocabulary(sound: &[u8], values: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    while let Some(at) = bytes.windows(10).position(|part| part == b"tokenizer.") {
        bytes[at..at + 10].copy_from_slice(b"elsewhere.");
    }
    let header = layout(sound).unwrap().header;
    let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + values.len() as u64;
    bytes[16..24].copy_from_slice(&count.to_le_bytes());
    // The new values follow the counts. The tensor data follow the longer header.
    let added = &file(values)[file(&[]).len()..];
    let data = bytes.split_off(header.next_multiple_of(32));
    bytes.truncate(header);
    bytes.splice(24..24, added.iter().copied());
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(data);
    bytes
}

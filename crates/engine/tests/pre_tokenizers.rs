//! Compares the token ids of every pre-tokenizer of GGUF files with those of llama.cpp
//! (`scripts/golden/pre_tokenizers.py`). All of them use one byte-level vocabulary; only the name in
//! the metadata differs.

#![allow(clippy::unwrap_used)]

mod common;

use common::{failed, fixtures, gguf_with_vocabulary, loaded, tiny, write_minimal_model};
use modelgate_protocol::Request;
use modelgate_testkit::gguf::Vocabulary;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The number of names in the golden data.
const NAMES: usize = 87;

/// The number of distinct results in the golden data.
const RESULTS: usize = 31;

/// The character that the engine refuses, because it marks special tokens internally.
const RESERVED: char = '\u{10ffff}';

/// The golden data.
#[derive(Deserialize)]
struct Golden {
    /// The number of tokens in the vocabulary.
    tokens: u64,
    texts: Vec<String>,
    /// The index in `results` for each name of a pre-tokenizer.
    names: BTreeMap<String, usize>,
    /// Distinct results: the ids of each text.
    results: Vec<Vec<Vec<u32>>>,
}

fn golden() -> Golden {
    let path = fixtures().join("golden/pre_tokenizers.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Returns the vocabulary file with another value of `tokenizer.ggml.pre`. The file has no tensors,
/// so no offset changes.
fn vocabulary(name: &str) -> Vec<u8> {
    let bytes = std::fs::read(fixtures().join("golden/byte_level_vocabulary.gguf")).unwrap();
    // the number of the type of strings in GGUF metadata is 8
    let key = [b"tokenizer.ggml.pre".as_slice(), 8u32.to_le_bytes().as_slice()].concat();
    let at =
        bytes.windows(key.len()).position(|window| window == key.as_slice()).unwrap() + key.len();
    let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let value = [(name.len() as u64).to_le_bytes().as_slice(), name.as_bytes()].concat();
    [&bytes[..at], value.as_slice(), &bytes[at + 8 + length..]].concat()
}

/// Returns a request for a minimal model with the pre-tokenizer `name`. Only the tokenizer is used.
fn request(dir: &Path, name: &str, tokens: u64) -> Request {
    write_minimal_model(dir, tokens, &tiny());
    let source = dir.join("vocabulary.gguf");
    std::fs::write(&source, vocabulary(name)).unwrap();
    gguf_with_vocabulary(dir, Vocabulary::OfGguf(&source))
}

#[test]
fn ids_of_every_pre_tokenizer_match_llama_cpp() {
    let golden = golden();
    let mut wrong = Vec::new();
    for (name, result) in &golden.names {
        let dir = tempfile::tempdir().unwrap();
        let model = loaded(&request(dir.path(), name, golden.tokens));
        for (text, expected) in golden.texts.iter().zip(&golden.results[*result]) {
            let found = model.encode(text, true);
            if text.contains(RESERVED) {
                assert!(found.unwrap_err().message.contains("U+10FFFF"), "{name}");
                continue;
            }
            let found = found.unwrap();
            if found != *expected {
                wrong.push(format!("{name} {text:?}: {found:?}, expected {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_golden_data_distinguish_the_rules() {
    let golden = golden();
    assert_eq!(golden.names.len(), NAMES);
    assert!(golden.texts.len() >= 100);
    assert!(golden.results.iter().all(|result| result.len() == golden.texts.len()));
    let distinct: BTreeSet<_> = golden.results.iter().collect();
    assert_eq!(distinct.len(), RESULTS);
    let used: BTreeSet<_> = golden.names.values().copied().collect();
    assert_eq!(used, (0..RESULTS).collect::<BTreeSet<_>>());
}

#[test]
fn an_unknown_pre_tokenizer_is_refused_with_all_names() {
    let golden = golden();
    let dir = tempfile::tempdir().unwrap();
    let failure = failed(&request(dir.path(), "unknown-rule", golden.tokens));
    assert!(failure.message.contains("\"unknown-rule\""), "{failure}");
    for name in golden.names.keys() {
        assert!(failure.message.contains(name.as_str()), "{name}: {failure}");
    }
}

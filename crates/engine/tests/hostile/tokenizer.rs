//! Mutations of a `tokenizer.json`: one that loads encodes a text to ids of its own tokens.

use crate::outcomes::{alone, bounded, thousand};
use crate::{files, load};
use modelgate_engine::parsers;
use modelgate_protocol::{Failure, FailureKind, ModelFiles};
use modelgate_testkit::mutation::{Mutation, decimals};
use modelgate_testkit::smallest::{self, Kind, TEXT, TOKENS};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// Returns the ids of the tokens of a file.
fn ids(json: &Value) -> HashSet<u64> {
    let vocabulary = json["model"]["vocab"].as_object().into_iter().flatten();
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let around = json["post_processor"]["special_tokens"].as_object().into_iter().flatten();
    let around = around.flat_map(|(_, token)| token["ids"].as_array().into_iter().flatten());
    vocabulary
        .map(|(_, id)| id)
        .chain(added.map(|token| &token["id"]))
        .chain(around)
        .filter_map(Value::as_u64)
        .collect()
}

#[test]
fn a_thousand_mutations_of_a_tokenizer() {
    for (name, kind) in [("tokenizer", Kind::ByteLevel), ("tokenizer of pieces", Kind::Pieces)] {
        let dir = tempfile::tempdir().unwrap();
        smallest::write(dir.path(), kind);
        let path = dir.path().join("tokenizer.json");
        let sound = fs::read(&path).unwrap();
        let json: Value = serde_json::from_slice(&sound).unwrap();
        let (expected, _) = parsers::tokenizer(&files(dir.path()), TEXT).unwrap();
        assert!(expected.len() > 4, "{expected:?}");
        let loads = [Mutation::Flip, Mutation::Length];
        thousand(name, &sound, sound.len(), &decimals(&sound), &loads, |case, bytes| {
            fs::write(&path, bytes).unwrap();
            let (model, _) = load(&files(dir.path()))?;
            let found = model.encode(TEXT, true)?;
            let mutated: Value = serde_json::from_slice(bytes).unwrap();
            let known = ids(&mutated);
            assert!(found.iter().all(|id| known.contains(&u64::from(*id))), "{case}: {found:?}");
            if mutated == json {
                assert_eq!(found, expected, "{case}");
            }
            for token in mutated["added_tokens"].as_array().into_iter().flatten() {
                assert!(
                    token["id"].as_u64().is_some_and(|id| id < TOKENS as u64),
                    "{case}: {token}"
                );
            }
            model.decode(&found)?;
            Ok(())
        });
    }
}

fn encoded(dir: &Path, name: &str, json: &Value) -> Result<(Vec<u32>, String), Failure> {
    let path = dir.join("tokenizer.json");
    fs::write(&path, json.to_string()).unwrap();
    let files = ModelFiles { tokenizer: Some(path), ..files(dir) };
    // A text that causes exponential backtracking of a regular expression.
    let text = format!("{TEXT} {}!", "a".repeat(64));
    bounded(name, || parsers::tokenizer(&files, &text))
}

#[test]
fn values_that_the_library_does_not_validate_are_refused() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let sound = smallest::tokenizer(Kind::ByteLevel);
    encoded(dir.path(), "unchanged", &sound).expect("sound");
    let with = |pointer: &str, value: Value| {
        let mut json = sound.clone();
        *json.pointer_mut(pointer).unwrap() = value;
        json
    };
    let regex = |pattern: &str| {
        let step = json!({
            "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false
        });
        with("/pre_tokenizer", step)
    };
    let deep = |kind: &str, key: &str, depth: usize| {
        let mut value = json!({ "type": kind, key: [] });
        for _ in 0..depth {
            value = json!({ "type": kind, key: [value] });
        }
        value
    };
    let added = |count: usize, length: usize| {
        let token = |id: usize| {
            let content = format!("{id:0length$}");
            json!({ "id": id, "content": content, "special": true, "normalized": false,
                    "single_word": false, "lstrip": false, "rstrip": false })
        };
        with("/added_tokens", (0..count).map(token).collect())
    };
    // A trie with a stated size of 2^32 - 4 bytes in a text of a few bytes.
    let charsmap = "/P///wAAAAA=";
    for (name, json) in [
        (
            "words of no length",
            with("/pre_tokenizer", json!({ "type": "FixedLength", "length": 0 })),
        ),
        (
            "a regular expression with exponential backtracking",
            regex(r"(a*)*(b*)*(c*)*(a|ab|abc)*[^\x00-\x{10ffff}]"),
        ),
        ("a regular expression without an answer", regex("(a|a)*(a|a)*b")),
        ("a backreference", regex(r"(a*)*\1*\1b")),
        ("a lookbehind", regex(r"(?<=(a|b)*)c|(?=(a+)+b)")),
        ("a regular expression with deep nesting", regex(&"(".repeat(100_000))),
        (
            "a regular expression with nested repetitions",
            regex("((((a{1,1000}){1,1000}){1,1000}){1,1000}){1,1000}x"),
        ),
        (
            "a character map of an invalid length",
            with(
                "/normalizer",
                json!({
                    "type": "Precompiled", "precompiled_charsmap": charsmap
                }),
            ),
        ),
        ("a long added token", added(1, 2000)),
        ("many added tokens", added(2000, 1000)),
        (
            "normalizers within normalizers",
            with("/normalizer", deep("Sequence", "normalizers", 58)),
        ),
        ("steps within steps", with("/pre_tokenizer", deep("Sequence", "pretokenizers", 58))),
        ("decoders within decoders", with("/decoder", deep("Sequence", "decoders", 58))),
        (
            "processors within processors",
            with("/post_processor", deep("Sequence", "processors", 58)),
        ),
        (
            "a prefix that is longer than a token",
            with(
                "/model",
                json!({
                    "type": "BPE", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": [["a", "b"]],
                    "continuing_subword_prefix": "###"
                }),
            ),
        ),
    ] {
        match encoded(dir.path(), name, &json) {
            Ok((ids, _)) => println!("{name}: {ids:?}"),
            Err(failure) => {
                println!("{name}: {failure}");
                assert_eq!(failure.kind, FailureKind::Tokenizer, "{name}: {failure}");
            }
        }
    }
}

#[test]
fn files_that_need_too_much_memory_are_refused() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let sound = smallest::tokenizer(Kind::ByteLevel).to_string();
    let with = |key: &str, value: String| {
        sound.replacen(&format!("\"{key}\":null"), &format!("\"{key}\":{value}"), 1)
    };
    let vocab = |count: usize| {
        let pairs: Vec<String> = (0..count).map(|n| format!("\"{n:x}\":{n}")).collect();
        format!(r#"{{"model":{{"type":"BPE","vocab":{{{}}},"merges":[]}}}}"#, pairs.join(","))
    };
    let most = (1 << 21) - 1000;
    for (name, text) in [
        ("numbers", with("normalizer", format!("[{}0]", "0,".repeat(most)))),
        ("lists", with("normalizer", format!("[{}[0]]", "[0],".repeat(most / 2)))),
        ("objects", with("normalizer", format!("[{}0]", r#"{"a":0},"#.repeat(most / 3)))),
        (
            "steps",
            with(
                "normalizer",
                format!(
                    r#"{{"type":"Sequence","normalizers":[{}{{"type":"NFC"}}]}}"#,
                    r#"{"type":"NFC"},"#.repeat(most / 3)
                ),
            ),
        ),
        (
            "pieces",
            format!(
                r#"{{"model":{{"type":"Unigram","unk_id":0,"vocab":[{}["a",0]]}}}}"#,
                r#"["a",0],"#.repeat(most / 3)
            ),
        ),
        ("tokens", vocab(most / 2)),
        ("more values than any tokenizer has", format!("[{}0]", "0,".repeat(1 << 21))),
        ("a file longer than any tokenizer", " ".repeat((32 << 20) + 1)),
    ] {
        fs::write(&path, text).unwrap();
        let files = ModelFiles { tokenizer: Some(path.clone()), ..files(dir.path()) };
        let outcome = bounded(name, || parsers::tokenizer(&files, TEXT).map(drop));
        println!("{name}: {outcome:?}");
    }
}

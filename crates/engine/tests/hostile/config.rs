//! Mutations of a `config.json` and a `generation_config.json`: a file that loads is within the bounds
//! and has the values of its text.

use crate::outcomes::{alone, bounded, thousand};
use crate::safetensors::logits;
use crate::{files, load};
use modelgate_model::Config;
use modelgate_protocol::FailureKind;
use modelgate_testkit::mutation::{Mutation, decimals};
use modelgate_testkit::smallest::{self, Kind, TOKENS};
use serde_json::Value;
use std::fs;

/// Compares a config with its text, and with the bounds of its values.
fn compared(case: &str, config: &Config, text: &[u8]) {
    let json: Value =
        serde_json::from_slice(text).unwrap_or_else(|error| panic!("{case}: {error}"));
    for (key, found) in [
        ("num_hidden_layers", config.layers),
        ("hidden_size", config.hidden),
        ("num_attention_heads", config.heads),
        ("num_key_value_heads", config.kv_heads),
        ("head_dim", config.head_dim),
        ("intermediate_size", config.ffn),
        ("vocab_size", config.vocab),
        ("max_position_embeddings", config.max_positions),
    ] {
        assert!((1..=1 << 24).contains(&found), "{case}: {key} is {found}");
        if let Some(written) = json.get(key).filter(|value| !value.is_null()) {
            assert_eq!(written.as_u64(), Some(found as u64), "{case}: {key}");
        }
    }
    assert!(config.layers <= 4096, "{case}");
    assert!(config.heads.is_multiple_of(config.kv_heads) && config.head_dim.is_multiple_of(2));
    for (key, found) in [("rms_norm_eps", config.norm_eps), ("rope_theta", config.rope.theta)] {
        assert!(found.is_finite() && found > 0.0, "{case}: {key} is {found}");
        if let Some(written) = json.get(key).filter(|value| !value.is_null()) {
            assert_eq!(written.as_f64(), Some(found), "{case}: {key}");
        }
    }
    let written = match json.get("eos_token_id") {
        // a negative number means no token
        Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_u64).collect(),
        Some(Value::Number(id)) => id.as_u64().into_iter().collect(),
        _ => Vec::new(),
    };
    let found: Vec<u64> = config.stop_tokens.iter().map(|id| u64::from(*id)).collect();
    assert_eq!(found, written, "{case}: eos_token_id");
}

#[test]
fn a_thousand_mutations_of_a_config() {
    let dir = tempfile::tempdir().unwrap();
    smallest::write(dir.path(), Kind::ByteLevel);
    let path = dir.path().join("config.json");
    let sound = fs::read(&path).unwrap();
    let loads = [Mutation::Flip, Mutation::Length];
    thousand("config", &sound, sound.len(), &decimals(&sound), &loads, |case, bytes| {
        fs::write(&path, bytes).unwrap();
        let (model, resident) = load(&files(dir.path()))?;
        compared(case, model.config(), bytes);
        let config = model.config().clone();
        let embedding = resident.iter().find(|t| t.name == "model.embed_tokens.weight").unwrap();
        assert_eq!(embedding.shape, [config.vocab as u64, config.hidden as u64], "{case}");
        assert!(model.context() <= config.max_positions, "{case}");
        if model.context() >= 4 {
            assert_eq!(logits(model).len(), 4 * TOKENS, "{case}");
        }
        Ok(())
    });
}

#[test]
fn a_thousand_mutations_of_a_generation_config() {
    let dir = tempfile::tempdir().unwrap();
    smallest::write(dir.path(), Kind::ByteLevel);
    let path = dir.path().join("generation_config.json");
    let sound = br#"{ "eos_token_id": [2, 128001, 7], "top_p": 0.9, "do_sample": true }"#;
    let loads = [Mutation::Flip, Mutation::Length];
    thousand("generation config", sound, sound.len(), &decimals(sound), &loads, |case, bytes| {
        fs::write(&path, bytes).unwrap();
        let (model, _) = load(&files(dir.path()))?;
        let json: Value = serde_json::from_slice(bytes).unwrap();
        let written = match &json["eos_token_id"] {
            Value::Null => Vec::new(),
            Value::Array(ids) => ids.iter().filter_map(Value::as_u64).collect(),
            id => id.as_u64().into_iter().collect(),
        };
        // the ids of the config, 1 and 2, are not used
        let mut expected: Vec<u64> = written;
        expected.sort_unstable();
        expected.dedup();
        let found: Vec<u64> = model.stop_tokens().iter().map(|id| u64::from(*id)).collect();
        assert_eq!(found, expected, "{case}");
        Ok(())
    });
}

#[test]
fn oversized_and_invalid_configs_are_refused() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    smallest::write(dir.path(), Kind::ByteLevel);
    let sound = smallest::config().to_string();
    let with = |more: String| format!("{},{more}}}", &sound[..sound.len() - 1]);
    for (name, text, words) in [
        ("a megabyte", with(format!(r#""a":"{}""#, "a".repeat(1 << 20))), "1048576 bytes"),
        ("200 MiB of blanks", " ".repeat(200 << 20), "1048576 bytes"),
        (
            "too many layers for the memory",
            sound.replace("_layers\":1", "_layers\":4096"),
            "4096 layers",
        ),
        ("a control character in a string", sound.replace("llama", "ll\u{0}ma"), "not JSON"),
    ] {
        fs::write(dir.path().join("config.json"), text).unwrap();
        let failure = bounded(name, || load(&files(dir.path())).map(drop)).expect_err(name);
        assert!(failure.message.contains(words), "{name}: {failure}");
        assert!([FailureKind::Corrupt, FailureKind::TensorMissing].contains(&failure.kind));
    }
    fs::write(dir.path().join("config.json"), b"{\"model_type\": \"\xff\"}").unwrap();
    let failure = load(&files(dir.path())).map(drop).expect_err("invalid UTF-8");
    assert!(failure.message.contains("invalid utf-8"), "{failure}");
    // As many lists as a text of 1 MiB can hold.
    let lists = with(format!(r#""a":[{}0]"#, "[[0]],".repeat(170_000)));
    fs::write(dir.path().join("config.json"), lists).unwrap();
    bounded("lists", || load(&files(dir.path())).map(drop)).expect("the rest of the file is valid");
}

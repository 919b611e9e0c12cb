//! The primary models on paper: the shapes that our code makes of the embedded configs are those
//! of transformers' own models, built on the meta device (`fixtures/golden/primary_tensors.py`).

use modelgate_harness::embedded::known;
use modelgate_model::{parameters, tensors};
use modelgate_testkit::workers::fixture;
use std::collections::BTreeMap;

/// Compares names and shapes; `prefix` is that of the part that is loaded.
fn agrees(repo: &str, golden: &str, prefixes: &[&str], count: u64) {
    let config = known::config(repo).expect("embedded").expect("a sound config");
    assert_eq!(parameters(&config), count);
    let ours: BTreeMap<String, Vec<usize>> =
        tensors(&config).into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
    let text = std::fs::read_to_string(fixture(&format!("golden/tensors/{golden}.json")))
        .expect("golden data");
    let golden: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let list = golden.get("tensors").unwrap_or(&golden);
    let theirs: BTreeMap<String, Vec<usize>> =
        serde_json::from_value(list.clone()).expect("shapes");
    let theirs: BTreeMap<_, _> = theirs
        .into_iter()
        .filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn llama_70b() {
    agrees(
        "meta-llama/Llama-3.1-70B-Instruct",
        "llama-3.1-70b-instruct",
        &["model.", "lm_head."],
        70_553_706_496,
    );
}

#[test]
fn mixtral_8x22b() {
    agrees(
        "mistralai/Mixtral-8x22B-Instruct-v0.1",
        "mixtral-8x22b-instruct-v0.1",
        &["model.", "lm_head."],
        140_630_071_296,
    );
}

#[test]
fn qwen_omni_7b_text() {
    agrees(
        "Qwen/Qwen2.5-Omni-7B",
        "qwen2.5-omni-7b",
        &["thinker.model.", "thinker.lm_head."],
        7_615_616_512,
    );
}

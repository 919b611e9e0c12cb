//! Tests of the tensor names and shapes that are computed from the embedded configs of the primary
//! models. The expected values come from the models of transformers, created on the meta device
//! (`scripts/golden/primary_tensors.py`).

use modelgate_harness::embedded::known;
use modelgate_model::{parameters, tensors};
use modelgate_testkit::workers::fixture;
use std::collections::BTreeMap;

/// Compares the parameter count, and the names and shapes of the tensors. `prefixes` selects the
/// tensors of the loaded part of the model.
fn assert_tensors_match(repo: &str, golden: &str, prefixes: &[&str], count: u64) {
    let config = known::config(repo).expect("an embedded config").expect("a valid config");
    assert_eq!(parameters(&config), count);
    let computed: BTreeMap<String, Vec<usize>> =
        tensors(&config).into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
    let text = std::fs::read_to_string(fixture(&format!("golden/tensors/{golden}.json")))
        .expect("golden data");
    let golden: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let list = golden.get("tensors").unwrap_or(&golden);
    let expected: BTreeMap<String, Vec<usize>> =
        serde_json::from_value(list.clone()).expect("shapes");
    let expected: BTreeMap<_, _> = expected
        .into_iter()
        .filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    assert_eq!(computed, expected);
}

#[test]
fn the_tensors_of_llama_70b_match_transformers() {
    assert_tensors_match(
        "meta-llama/Llama-3.1-70B-Instruct",
        "llama-3.1-70b-instruct",
        &["model.", "lm_head."],
        70_553_706_496,
    );
}

#[test]
fn the_tensors_of_mixtral_8x22b_match_transformers() {
    assert_tensors_match(
        "mistralai/Mixtral-8x22B-Instruct-v0.1",
        "mixtral-8x22b-instruct-v0.1",
        &["model.", "lm_head."],
        140_630_071_296,
    );
}

#[test]
fn the_text_tensors_of_qwen_omni_7b_match_transformers() {
    assert_tensors_match(
        "Qwen/Qwen2.5-Omni-7B",
        "qwen2.5-omni-7b",
        &["thinker.model.", "thinker.lm_head."],
        7_615_616_512,
    );
}

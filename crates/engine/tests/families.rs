//! Compares every family of models with transformers in f32 on the same random weights
//! (`scripts/golden/families.py`). The weights are chosen so that attention is peaked and logits are far
//! apart, so that a mistake in any operation changes the result.

#![allow(clippy::unwrap_used)]

mod common;

use common::{fixtures, inventory, largest_difference, load, loaded, request, rows, sha256};
use modelgate_engine::Model;
use modelgate_protocol::{Event, Request, Scheme};
use modelgate_testkit::families::{Golden, Variant};
use modelgate_testkit::tokenizers;

/// The maximum difference of a logit, caused by f32 sums in another order.
const LOGIT: f32 = 1e-4;

/// A variant of the golden data with a tokenizer, in its own folder.
struct Prepared {
    request: Request,
    _folder: tempfile::TempDir,
}

fn prepared(golden: &Golden, variant: &Variant, scheme: Scheme) -> Prepared {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden.config(variant), folder.path().join("config.json")).unwrap();
    std::fs::copy(golden.weights(variant), folder.path().join("model.safetensors")).unwrap();
    let vocabulary = golden.logits(variant, &variant.prompts[0])[0].len();
    let tokenizer = tokenizers::numbered(vocabulary);
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
    let mut request = request(folder.path(), scheme);
    request.context = Some(512);
    Prepared { request, _folder: folder }
}

/// Returns the logits at all positions, evaluated in pieces of `piece` tokens.
fn logits(model: &mut Model, tokens: &[u32], piece: usize) -> Vec<Vec<f32>> {
    model.reset();
    let mut found = Vec::new();
    for (number, part) in tokens.chunks(piece).enumerate() {
        found.extend(rows(&model.forward(part, number * piece).unwrap()));
    }
    found
}

#[test]
fn logits_match_the_reference_in_one_batch_and_token_by_token() {
    let golden = Golden::read(&fixtures());
    assert!(golden.variants.len() >= 12);
    for variant in &golden.variants {
        let mut model = loaded(&prepared(&golden, variant, Scheme::None).request);
        let mut largest = [0f32; 3];
        for prompt in &variant.prompts {
            let expected = golden.logits(variant, prompt);
            for (found, piece) in largest.iter_mut().zip([300, 1, 7]) {
                let all = logits(&mut model, &prompt.token_ids, piece);
                let kept: Vec<_> = prompt.positions.iter().map(|at| all[*at].clone()).collect();
                *found = found.max(largest_difference(&kept, &expected));
            }
        }
        println!("{}: at once, one by one, by seven: {largest:?}", variant.name);
        assert!(largest.iter().all(|found| *found <= LOGIT), "{}: {largest:?}", variant.name);
    }
}

#[test]
fn greedy_tokens_match_the_reference_up_to_the_first_tie() {
    let golden = Golden::read(&fixtures());
    let (mut compared, mut all) = (0, 0);
    for variant in &golden.variants {
        let mut model = loaded(&prepared(&golden, variant, Scheme::None).request);
        for prompt in &variant.prompts {
            assert_eq!(prompt.greedy.len(), 64);
            model.reset();
            let (mut input, mut position) = (prompt.token_ids.clone(), 0);
            all += prompt.greedy.len();
            for (token, margin) in prompt.greedy.iter().zip(&prompt.greedy_margins) {
                if *margin < 10.0 * f64::from(LOGIT) {
                    break;
                }
                let found = rows(&model.forward(&input, position).unwrap());
                let last = found.last().unwrap();
                let best = (0..last.len()).max_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap();
                assert_eq!(best as u32, *token, "{} after {position}", variant.name);
                position += input.len();
                input = vec![*token];
                compared += 1;
            }
        }
    }
    println!("{compared} of {all} greedy tokens compared");
    assert!(compared * 10 >= all * 9, "{compared} of {all}");
}

#[test]
fn the_golden_data_match_the_weights_and_are_sensitive_to_mistakes() {
    let golden = Golden::read(&fixtures());
    for variant in &golden.variants {
        let name = &variant.name;
        let found = sha256(&golden.weights(variant));
        assert_eq!(found, variant.weights_sha256, "{name}: run scripts/golden/families.py");
        assert!(variant.logit_deviation >= 1.0, "{name}: {}", variant.logit_deviation);
        // Uniform attention over 300 tokens would give the mean of 1/n, which is 0.02.
        assert!(variant.attention_peak >= 0.3, "{name}: {}", variant.attention_peak);
        let lengths: Vec<usize> = variant.prompts.iter().map(|p| p.token_ids.len()).collect();
        assert_eq!(lengths, [1, 17, 300], "{name}");
        assert!(variant.mistakes.len() >= 10, "{name}");
        for (mistake, changes) in &variant.mistakes {
            let largest = changes.values().copied().fold(0.0, f64::max);
            assert!(largest >= 100.0 * f64::from(LOGIT), "{name}, {mistake}: {largest}");
        }
    }
}

#[test]
fn the_parts_of_an_omni_model_without_text_are_listed() {
    let golden = Golden::read(&fixtures());
    let towers = ["audio tower", "vision tower"];
    let all = ["audio tower", "talker", "vision tower"];
    for (name, expected) in [("omni", all.as_slice()), ("omni-thinker", towers.as_slice())] {
        let prepared = prepared(&golden, golden.variant(name), Scheme::None);
        let (model, events) = load(&prepared.request);
        let model = model.unwrap();
        let groups: Vec<&str> = events
            .iter()
            .filter_map(|event| match event {
                Event::Omitted(omitted) => Some(omitted.group.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(groups, expected, "{name}");
        assert_eq!(inventory(&events).len(), modelgate_model::tensors(model.config()).len());
        let parts = events.iter().find_map(|event| match event {
            Event::Model { parts, .. } => Some(parts.clone()),
            _ => None,
        });
        assert_eq!(parts.unwrap(), ["text"], "{name}");
    }
}

//! Compares the engine with transformers in f32 on the bundled tiny models (`scripts/golden/tiny.py`).

#![allow(clippy::unwrap_used)]

mod common;

use common::{
    fixtures, largest_difference, load, loaded, messages, question, request, rows, sha256, tiny,
};
use modelgate_engine::{Model, answer, perplexity};
use modelgate_protocol::{ActivityName, Event, FinishReason, GenerationRequest, Scheme};
use modelgate_testkit::safetensors_edit::read_shard;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The maximum difference of a logit, caused by f32 sums in another order.
const LOGIT: f32 = 1e-4;

/// Greedy tokens are compared where the best logit of the reference exceeds the second by more than this.
const MARGIN: f64 = 1e-3;

/// The bundled models.
const MODELS: [&str; 3] = ["llama", "mixtral", "qwen2.5-omni"];

fn folder(model: &str) -> PathBuf {
    fixtures().join("tiny").join(model)
}

struct Golden {
    json: Value,
    logits: BTreeMap<String, Vec<Vec<f32>>>,
}

impl Golden {
    fn read(model: &str) -> Golden {
        let path = |ending: &str| fixtures().join(format!("golden/tiny-{model}.{ending}"));
        let text = std::fs::read_to_string(path("json")).unwrap();
        let logits = read_shard(&path("safetensors"));
        Golden {
            json: serde_json::from_str(&text).unwrap(),
            logits: logits.iter().map(|(name, raw)| (name.clone(), raw.rows())).collect(),
        }
    }

    fn prompts(&self) -> &[Value] {
        self.json["prompts"].as_array().unwrap()
    }
}

fn name(prompt: &Value) -> &str {
    prompt["name"].as_str().unwrap()
}

fn ids(prompt: &Value, key: &str) -> Vec<u32> {
    serde_json::from_value(prompt[key].clone()).unwrap()
}

fn at(rows: &[Vec<f32>], positions: &[u32]) -> Vec<Vec<f32>> {
    positions.iter().map(|position| rows[*position as usize].clone()).collect()
}

#[test]
fn logits_of_a_prompt_match_the_reference() {
    for model_name in MODELS {
        let golden = Golden::read(model_name);
        let mut model = loaded(&request(&folder(model_name), Scheme::None));
        let mut largest = 0f32;
        for prompt in golden.prompts() {
            model.reset();
            let logits = rows(&model.forward(&ids(prompt, "token_ids"), 0).unwrap());
            let found = at(&logits, &ids(prompt, "positions"));
            let difference = largest_difference(&found, &golden.logits[name(prompt)]);
            assert!(difference <= LOGIT, "{}: {difference}", name(prompt));
            largest = largest.max(difference);
        }
        println!(
            "{model_name}: {} prompts, largest difference {largest:e}",
            golden.prompts().len()
        );
    }
}

#[test]
fn token_by_token_and_chunked_evaluation_give_the_same_logits() {
    for model_name in MODELS {
        let golden = Golden::read(model_name);
        let mut model = loaded(&request(&folder(model_name), Scheme::None));
        for prompt in golden.prompts().iter().step_by(4) {
            let tokens = ids(prompt, "token_ids");
            for piece in [1, 7] {
                model.reset();
                let mut found = Vec::new();
                for (number, tokens) in tokens.chunks(piece).enumerate() {
                    found.extend(rows(&model.forward(tokens, number * piece).unwrap()));
                }
                let found = at(&found, &ids(prompt, "positions"));
                let difference = largest_difference(&found, &golden.logits[name(prompt)]);
                assert!(difference <= LOGIT, "{} by {piece}: {difference}", name(prompt));
            }
        }
    }
}

#[test]
fn a_prompt_of_several_chunks_matches_token_by_token_evaluation() {
    let mut model = loaded(&request(&tiny(), Scheme::None));
    let tokens: Vec<u32> = (0..1100).map(|n| (n * 37 + n / 11) % 490).collect();
    let at_once = rows(&model.forward(&tokens, 0).unwrap());
    model.reset();
    let mut one_by_one = Vec::new();
    for (position, token) in tokens.iter().enumerate() {
        one_by_one.extend(rows(&model.forward(&[*token], position).unwrap()));
    }
    let difference = largest_difference(&at_once, &one_by_one);
    assert!(difference <= LOGIT, "{difference}");
}

#[test]
fn prompts_and_token_ids_match_the_reference() {
    for model_name in MODELS {
        let golden = Golden::read(model_name);
        let model = loaded(&request(&folder(model_name), Scheme::None));
        for case in golden.prompts() {
            let expected = case["text"].as_str().unwrap();
            let chat = messages(case);
            let tokens = match &chat {
                Some(messages) => {
                    let prompt = model.render(messages).unwrap();
                    assert_eq!(prompt.text(), expected, "{}", name(case));
                    model.encode_prompt(&prompt).unwrap()
                }
                None => model.encode(expected, true).unwrap(),
            };
            assert_eq!(tokens, ids(case, "token_ids"), "{}", name(case));
        }
    }
}

#[test]
fn greedy_answers_match_the_reference() {
    for model_name in MODELS {
        let golden = Golden::read(model_name);
        let mut model = loaded(&request(&folder(model_name), Scheme::None));
        for prompt in golden.prompts() {
            let Some(messages) = messages(prompt) else { continue };
            let expected = ids(prompt, "greedy");
            let request = GenerationRequest {
                name: name(prompt).into(),
                messages,
                tokens: Vec::new(),
                max_tokens: expected.len() as u32,
            };
            let answer = answer(&mut model, &request, &|_| ()).unwrap();
            let margins: Vec<f64> =
                serde_json::from_value(prompt["greedy_margins"].clone()).unwrap();
            assert!(margins.iter().all(|margin| *margin > MARGIN), "{}: a tie", name(prompt));
            assert_eq!(answer.tokens, expected, "{}", name(prompt));
            assert!(answer.repeated_identically);
            assert_eq!(answer.non_finite_logits, 0);
            let logprobs: Vec<f64> =
                serde_json::from_value(prompt["greedy_logprobs"].clone()).unwrap();
            for (found, expected) in answer.logprobs.iter().zip(logprobs) {
                assert!((found.unwrap().get() - expected).abs() < 1e-4, "{}", name(prompt));
            }
        }
    }
}

#[test]
fn perplexity_matches_the_reference() {
    for model_name in MODELS {
        let golden = Golden::read(model_name);
        let mut model = loaded(&request(&folder(model_name), Scheme::None));
        let text = std::fs::read_to_string(fixtures().join("tiny/perplexity.txt")).unwrap();
        let found = perplexity(&mut model, &text, &|_| ()).unwrap();
        let expected = golden.json["perplexity"]["value"].as_f64().unwrap();
        let value = found.value.unwrap().get();
        assert!((value / expected - 1.0).abs() < 1e-4, "{value}, expected {expected}");
        assert_eq!(found.tokens + 1, golden.json["perplexity"]["tokens"].as_u64().unwrap());
        println!("{model_name}: perplexity {value}, reference {expected}");
    }
}

#[test]
fn a_text_longer_than_the_context_is_split_into_windows() {
    let text = std::fs::read_to_string(fixtures().join("tiny/perplexity.txt")).unwrap();
    let mut request = request(&tiny(), Scheme::None);
    request.context = Some(100);
    let mut model = loaded(&request);
    let tokens = model.encode(&text, true).unwrap().len() as u64;
    let found = perplexity(&mut model, &text, &|_| ()).unwrap();
    assert_eq!(found.tokens, tokens - 1, "each window begins with the BOS token");
    let value = found.value.unwrap().get();
    assert!((1.5..3.0).contains(&value), "{value}: as the whole text, give or take the context");
}

#[test]
fn truncation_and_padding_of_a_tokenizer_are_ignored() {
    let dir = modelgate_testkit::safetensors_edit::copy_model(&tiny());
    let path = dir.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["truncation"] = serde_json::json!({
        "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0
    });
    json["padding"] = serde_json::json!({
        "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 500,
        "pad_type_id": 0, "pad_token": "<|finetune_right_pad_id|>"
    });
    std::fs::write(&path, json.to_string()).unwrap();
    let sound = loaded(&request(&tiny(), Scheme::Q8_0));
    let odd = loaded(&request(dir.path(), Scheme::Q8_0));
    let text = "What is the capital of France? And the opposite of hot?";
    assert_eq!(odd.encode(text, true).unwrap(), sound.encode(text, true).unwrap());
}

#[test]
fn an_answer_is_reported_completely() {
    let mut model = loaded(&request(&tiny(), Scheme::None));
    let answer = answer(&mut model, &question("What is the capital of France?"), &|_| ()).unwrap();
    assert!(answer.text.contains("Paris"), "{}", answer.text);
    assert!(!answer.text.contains("<|"), "{}", answer.text);
    assert_eq!(answer.finish_reason, FinishReason::Stop);
    assert_eq!(answer.logprobs.len(), answer.tokens.len());
    assert!(model.stop_tokens().contains(answer.tokens.last().unwrap()));
    assert!(answer.time_to_first_token_s.unwrap().get() > 0.0);
    assert!(answer.decode_tokens_per_s.unwrap().get() > 0.0);
}

#[test]
fn a_load_reports_every_tensor_in_order() {
    let (model, events) = load(&request(&tiny(), Scheme::None));
    let model: Model = model.unwrap();
    let position = |wanted: fn(&Event) -> bool| events.iter().position(wanted);
    let model_at = position(|event| matches!(event, Event::Model { .. })).unwrap();
    let first = position(|event| matches!(event, Event::Tensor(_))).unwrap();
    assert!(model_at < first);
    assert!(matches!(events.last(), Some(Event::Loaded)));
    let told = common::inventory(&events);
    assert_eq!(told.len(), modelgate_model::tensors(model.config()).len());
    assert!(told.iter().all(|tensor| tensor.dtype.name() == "f32" && tensor.nmse.is_none()));
    let Some(Event::Model { parameters, architecture, .. }) = events.get(model_at) else {
        panic!()
    };
    assert_eq!(*parameters, modelgate_model::parameters(model.config()));
    assert_eq!(architecture, "llama");
    let activity = events.iter().find_map(|event| match event {
        Event::Activity(activity) if activity.name == ActivityName::Read => Some(activity.clone()),
        _ => None,
    });
    assert_eq!(activity.unwrap().bytes, 2 * parameters);
}

#[test]
fn the_golden_data_match_the_weights_and_are_sensitive_to_mistakes() {
    for model_name in MODELS {
        let golden = Golden::read(model_name);
        for (name, hash) in golden.json["weights_sha256"].as_object().unwrap() {
            let found = sha256(&folder(model_name).join(name));
            assert_eq!(found, hash.as_str().unwrap(), "{name}: run scripts/golden/tiny.py");
        }
        assert!(golden.prompts().len() >= 20);
        let logits: Vec<f64> =
            golden.logits.values().flatten().flatten().map(|logit| f64::from(*logit)).collect();
        let mean = logits.iter().sum::<f64>() / logits.len() as f64;
        let square = logits.iter().map(|logit| (logit - mean).powi(2)).sum::<f64>();
        let deviation = (square / logits.len() as f64).sqrt();
        assert!(deviation >= 1.0, "{deviation}");
    }
}

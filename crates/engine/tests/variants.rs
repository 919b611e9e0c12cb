//! Features of decoders that the tiny Llama does not use: biases, tied embeddings, heads of another
//! width, rows that a block of 256 does not divide, sliding windows. With random weights, the tests
//! show that batches of any size give equal logits and that each feature has an effect.
//! `families.rs` compares with a reference.

#![allow(clippy::unwrap_used)]

mod common;

use common::{largest_difference, loaded, request, rows, tiny};
use modelgate_protocol::{DType, Scheme};
use modelgate_testkit::safetensors_edit::set_value;
use modelgate_testkit::shapes::write_random_model;
use std::path::Path;

const CONFIG: &str = r#"{
    "model_type": "qwen2", "num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 256,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 512,
    "rms_norm_eps": 1e-6, "max_position_embeddings": 2048, "rope_theta": 1000000.0,
    "tie_word_embeddings": true, "use_sliding_window": true, "sliding_window": 9,
    "max_window_layers": 0
}"#;

fn tokens() -> Vec<u32> {
    (0..40).map(|n| n * 11).collect()
}

fn logits(dir: &Path, piece: usize) -> Vec<Vec<f32>> {
    let mut model = loaded(&request(dir, Scheme::None));
    let mut found = Vec::new();
    for (number, tokens) in tokens().chunks(piece).enumerate() {
        found.extend(rows(&model.forward(tokens, number * piece).unwrap()));
    }
    found
}

fn written(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_random_model(dir.path(), config, 3, &tiny());
    dir
}

#[test]
fn batches_of_any_size_give_equal_logits() {
    let dir = written(CONFIG);
    let whole = logits(dir.path(), 40);
    assert!(whole.iter().flatten().all(|logit| logit.is_finite()));
    for piece in [1, 7] {
        let difference = largest_difference(&whole, &logits(dir.path(), piece));
        assert!(difference <= 1e-4, "by {piece}: {difference}");
    }
}

#[test]
fn a_sliding_window_changes_only_the_logits_after_it() {
    let limited = logits(written(CONFIG).path(), 40);
    let unlimited = CONFIG.replace("\"use_sliding_window\": true", "\"use_sliding_window\": false");
    let unlimited = logits(written(&unlimited).path(), 40);
    assert!(largest_difference(&limited[..9], &unlimited[..9]) <= 1e-5);
    assert!(largest_difference(&limited[9..10], &unlimited[9..10]) > 1e-3);
}

#[test]
fn a_bias_has_an_effect() {
    let dir = written(CONFIG);
    let before = logits(dir.path(), 40);
    for name in ["q_proj", "k_proj", "v_proj"] {
        set_value(dir.path(), &format!("model.layers.1.self_attn.{name}.bias"), 5, 3.0);
    }
    assert!(largest_difference(&before, &logits(dir.path(), 40)) > 1e-3);
}

#[test]
fn rows_not_divisible_by_the_block_size_stay_float_in_a_quantized_model() {
    let config = CONFIG.replace("\"intermediate_size\": 256", "\"intermediate_size\": 250");
    let dir = written(&config);
    let (model, events) = common::load(&request(dir.path(), Scheme::Q8_0));
    assert!(model.is_ok());
    for tensor in common::inventory(&events) {
        let row = *tensor.shape.last().unwrap();
        let quantized = tensor.shape.len() == 2 && row.is_multiple_of(32);
        assert_eq!(tensor.dtype.is_quantized(), quantized, "{}", tensor.name);
        assert_eq!(tensor.reason.is_none(), quantized, "{}", tensor.name);
    }
}

#[test]
fn rows_not_divisible_by_256_have_the_fallback_type_of_llama_cpp() {
    let config = CONFIG
        .replace("\"hidden_size\": 128", "\"hidden_size\": 160")
        .replace("\"intermediate_size\": 256", "\"intermediate_size\": 320");
    let dir = written(&config);
    for (scheme, base, fallback, max_nmse) in [
        (Scheme::Q4K, DType::Q4K, DType::Q5_0, 4e-3),
        (Scheme::Q5K, DType::Q5K, DType::Q5_1, 4e-3),
        (Scheme::Q6K, DType::Q6K, DType::Q8_0, 1e-4),
    ] {
        let (model, events) = common::load(&request(dir.path(), scheme));
        let (mut found_base, mut found_fallback) = (0, 0);
        for tensor in common::inventory(&events).iter().filter(|t| t.shape.len() == 2) {
            let row = *tensor.shape.last().unwrap();
            let name = &tensor.name;
            if row.is_multiple_of(256) {
                assert_eq!(tensor.dtype, base, "{name}");
                found_base += 1;
                continue;
            }
            assert_eq!(tensor.dtype, fallback, "{name}");
            let reason = tensor.reason.as_deref().unwrap();
            assert!(reason.contains(&format!("rows of {row}")), "{name}: {reason}");
            let nmse = tensor.nmse.unwrap().get();
            assert!((1e-6..max_nmse).contains(&nmse), "{name}: {nmse}");
            found_fallback += 1;
        }
        // the output matrices of attention have rows of 256 values
        assert_eq!((found_base, found_fallback), (2, 13), "{scheme}");
        let logits = rows(&model.unwrap().forward(&tokens(), 0).unwrap());
        assert!(logits.iter().flatten().all(|logit| logit.is_finite()), "{scheme}");
    }
}

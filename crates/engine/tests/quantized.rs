//! Quantization while loading: blocks, error and answers.

#![allow(clippy::unwrap_used)]

mod common;

use common::{fixtures, inventory, load, question, request, tiny};
use modelgate_engine::{answer, perplexity, quantize_rows};
use modelgate_model::residence;
use modelgate_protocol::{DType, Scheme};
use modelgate_testkit::random::Random;
use modelgate_testkit::safetensors_edit::{copy_model, scale_tensor, set_value};

/// Each type with the range of its normalized mean squared error on normally distributed values. A lower
/// error would be a mistake in the measurement.
const TYPES: [(Scheme, f64, f64); 5] = [
    (Scheme::Q4_0, 6e-3, 10e-3),
    (Scheme::Q4K, 4e-3, 7e-3),
    (Scheme::Q5K, 1e-3, 2e-3),
    (Scheme::Q6K, 2e-4, 5e-4),
    (Scheme::Q8_0, 1e-5, 6e-5),
];

fn normal(count: usize) -> Vec<f32> {
    let mut random = Random::new(7);
    (0..count).map(|_| 0.02 * random.normal()).collect()
}

#[test]
fn blocks_of_many_threads_equal_those_of_one_thread() {
    let values = normal(256 * 512);
    for (scheme, _, _) in TYPES {
        let dtype = scheme.dtype().unwrap();
        let together = quantize_rows(&values, &dtype).unwrap();
        let one_by_one: Vec<u8> =
            values.chunks(256).flat_map(|row| quantize_rows(row, &dtype).unwrap().bytes).collect();
        assert!(together.bytes == one_by_one, "{scheme}");
    }
}

#[test]
fn the_error_of_each_type_is_in_its_range() {
    let values = normal(256 * 4096);
    for (scheme, least, most) in TYPES {
        let nmse = quantize_rows(&values, &scheme.dtype().unwrap()).unwrap().nmse;
        println!("{scheme}: {nmse:e}");
        assert!((least..=most).contains(&nmse), "{scheme}: {nmse:e}");
    }
}

#[test]
fn values_that_cannot_be_quantized_are_refused() {
    assert_eq!(quantize_rows(&[0.0; 32], &DType::F32), None);
    assert_eq!(quantize_rows(&[0.0; 32], &DType::Q4K), None);
    assert_eq!(quantize_rows(&[0.0; 32], &DType::Q4_0).unwrap().nmse, 0.0);
}

#[test]
fn a_quantized_model_answers_and_its_resident_tensors_follow_the_rule() {
    let text = std::fs::read_to_string(fixtures().join("tiny/perplexity.txt")).unwrap();
    for (scheme, _, most) in TYPES {
        let (model, events) = load(&request(&tiny(), scheme));
        let mut model = model.unwrap();
        for tensor in inventory(&events) {
            let placed = residence(&tensor.name, &tensor.shape, scheme);
            let expected = placed.quantized.unwrap_or(DType::F32);
            assert_eq!(tensor.dtype, expected, "{}", tensor.name);
            let elements: u64 = tensor.shape.iter().product();
            assert_eq!(Some(tensor.bytes), expected.bytes(elements), "{}", tensor.name);
            assert_eq!(tensor.nmse.is_some(), expected.is_quantized(), "{}", tensor.name);
            assert_eq!(tensor.source_dtype, DType::Bf16);
            assert_eq!(tensor.reason, placed.reason);
            // Trained weights are not exactly normally distributed.
            assert!(tensor.nmse.is_none_or(|nmse| nmse.get() < 1.5 * most), "{tensor:?}");
        }
        let found = perplexity(&mut model, &text, &|_| ()).unwrap().value.unwrap().get();
        let answer =
            answer(&mut model, &question("What is the capital of France?"), &|_| ()).unwrap();
        println!("{scheme}: perplexity {found}, {:?}", answer.text);
        assert!(answer.text.contains("Paris"), "{scheme}: {}", answer.text);
        assert!(answer.repeated_identically, "{scheme}");
        assert!(found < 3.5, "{scheme}: {found}");
    }
}

#[test]
fn nan_in_a_weight_is_reported() {
    let name = "model.layers.1.mlp.down_proj.weight";
    for scheme in [Scheme::None, Scheme::Q4K] {
        let dir = copy_model(&tiny());
        set_value(dir.path(), name, 5000, f32::NAN);
        set_value(dir.path(), name, 77, f32::INFINITY);
        let (model, events) = load(&request(dir.path(), scheme));
        let failure = model.err().unwrap();
        assert_eq!(failure.kind.name(), "non_finite");
        assert!(failure.message.contains(name), "{}", failure.message);
        assert!(failure.message.contains("NaN or infinite values: 2"), "{}", failure.message);
        assert!(failure.message.contains("index 77"), "{}", failure.message);
        assert!(failure.message.contains(".safetensors"), "{}", failure.message);
        let reported = inventory(&events).into_iter().find(|tensor| tensor.name == name).unwrap();
        assert_eq!(reported.non_finite, 2);
    }
}

#[test]
fn weights_beyond_the_range_of_f16_are_reported_by_name() {
    let name = "model.layers.0.self_attn.q_proj.weight";
    let dir = copy_model(&tiny());
    scale_tensor(dir.path(), name, 1e9);
    for scheme in [Scheme::Q8_0, Scheme::Q4_0, Scheme::Q4K, Scheme::Q5K, Scheme::Q6K] {
        let failure = common::failed(&request(dir.path(), scheme));
        assert_eq!(failure.kind.name(), "non_finite", "{scheme}");
        assert!(failure.message.contains(name) && failure.message.contains("f16"), "{failure}");
    }
    assert!(load(&request(dir.path(), Scheme::None)).0.is_ok());
}

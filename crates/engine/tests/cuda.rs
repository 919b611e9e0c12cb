//! Compares the engine on a CUDA device with transformers in f32 and with the engine on the CPU. Needs a
//! GPU, so it is compiled only with the feature `cuda`.

#![allow(clippy::unwrap_used)]

mod common;

use common::{fixtures, gguf_alone, inventory, largest_difference, load, loaded, request, rows};
use modelgate_engine::{Model, perplexity};
use modelgate_protocol::{DType, Device, Evidence, GenerationRequest, Request, Role, Scheme};
use modelgate_testkit::families::Golden;
use modelgate_testkit::safetensors_edit::{RawTensor, read_shard, write_shard};
use modelgate_testkit::{model_files, requests, tokenizers};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The maximum difference of a logit of the golden families, whose logits have a standard deviation of 2
/// to 3. Keys and values are rounded to 11 bits.
const LOGIT: f32 = 4e-2;

/// The bundled models.
const MODELS: [&str; 3] = ["llama", "mixtral", "qwen2.5-omni"];

/// A model of 470 million weights.
const WIDE: &str = r#"{
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 4096, "vocab_size": 2048,
    "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 14336,
    "max_position_embeddings": 2048
}"#;

/// Serializes the tests: while one test records a CUDA graph, CUDA refuses allocations of all other
/// threads of the process, and a memory limit counts the allocations of other tests.
static TURN: Mutex<()> = Mutex::new(());

fn exclusive() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn on_cuda(request: Request) -> Request {
    Request { devices: vec![Device::Cuda(0)], ..request }
}

#[test]
fn logits_of_every_family_match_the_reference_within_16_bit_precision() {
    let _turn = exclusive();
    let golden = Golden::read(&fixtures());
    let (mut compared, mut all) = (0, 0);
    for variant in &golden.variants {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(golden.config(variant), folder.path().join("config.json")).unwrap();
        // In f32, so that products are not rounded to 16 bits.
        let shard = read_shard(&golden.weights(variant));
        let widened = |raw: RawTensor| {
            let mut wide = RawTensor { dtype: safetensors::Dtype::F32, ..raw.clone() };
            wide.set_f32(&raw.to_f32());
            wide
        };
        let wide = shard.into_iter().map(|(name, raw)| (name, widened(raw))).collect();
        write_shard(&folder.path().join("model.safetensors"), &wide);
        let vocabulary = golden.logits(variant, &variant.prompts[0])[0].len();
        let tokenizer = tokenizers::numbered(vocabulary);
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
        let mut request = on_cuda(request(folder.path(), Scheme::None));
        request.context = Some(512);
        let mut model = loaded(&request);
        let mut largest = [0f32; 3];
        for prompt in &variant.prompts {
            let expected = golden.logits(variant, prompt);
            for (found, piece) in largest.iter_mut().zip([300, 1, 7]) {
                model.reset();
                let mut logits = Vec::new();
                for (number, part) in prompt.token_ids.chunks(piece).enumerate() {
                    let found = match part {
                        [_] => vec![
                            model.last_logits(part, number * piece).unwrap().to_vec1().unwrap(),
                        ],
                        _ => rows(&model.forward(part, number * piece).unwrap()),
                    };
                    logits.extend(found);
                }
                let kept: Vec<_> = prompt.positions.iter().map(|at| logits[*at].clone()).collect();
                *found = found.max(largest_difference(&kept, &expected));
            }
            model.reset();
            let (mut input, mut position) = (prompt.token_ids.clone(), 0);
            all += prompt.greedy.len();
            // Continues with the token of the reference, also after a tie.
            for (token, margin) in prompt.greedy.iter().zip(&prompt.greedy_margins) {
                let last: Vec<f32> =
                    model.last_logits(&input, position).unwrap().to_vec1().unwrap();
                let best = (0..last.len()).max_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap();
                position += input.len();
                input = vec![*token];
                if *margin >= 2.0 * f64::from(LOGIT) {
                    assert_eq!(best as u32, *token, "{} before {position}", variant.name);
                    compared += 1;
                }
            }
        }
        println!("{}: at once, one by one, by seven: {largest:?}", variant.name);
        assert!(largest.iter().all(|found| *found <= LOGIT), "{}: {largest:?}", variant.name);
    }
    println!("{compared} of {all} greedy tokens compared");
    assert!(compared * 10 >= all * 8, "{compared} of {all}");
}

/// Returns the norm of the difference of each row divided by the norm of the row of `right`, at the
/// third quartile: a row whose router rates two experts almost equally may use another expert.
fn relative(found: &[Vec<f32>], right: &[Vec<f32>]) -> f64 {
    let square = |value: f64| value * value;
    let of_row = |(found, right): (&Vec<f32>, &Vec<f32>)| {
        let pairs = found.iter().zip(right);
        let difference: f64 = pairs.map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
        let norm: f64 = right.iter().map(|value| square(f64::from(*value))).sum();
        (difference / norm).sqrt()
    };
    assert_eq!(found.len(), right.len());
    let mut errors: Vec<f64> = found.iter().zip(right).map(of_row).collect();
    errors.sort_by(f64::total_cmp);
    assert!(errors.iter().all(|error| error.is_finite()));
    errors[(errors.len() - 1) * 3 / 4]
}

/// Returns the logits of `tokens`, evaluated in one batch and token by token.
fn both_ways(model: &mut Model, tokens: &[u32]) -> [Vec<Vec<f32>>; 2] {
    model.reset();
    let at_once = rows(&model.forward(tokens, 0).unwrap());
    model.reset();
    let mut next = |(at, token): (usize, &u32)| model.last_logits(&[*token], at).unwrap();
    let one_by_one = tokens.iter().enumerate().map(|token| next(token).to_vec1().unwrap());
    [at_once, one_by_one.collect()]
}

#[test]
fn logits_of_quantized_models_match_the_cpu() {
    let _turn = exclusive();
    let text = std::fs::read_to_string(fixtures().join("tiny/perplexity.txt")).unwrap();
    for name in MODELS {
        for scheme in Scheme::UNIFORM {
            let folder = fixtures().join("tiny").join(name);
            let (model, events) = load(&on_cuda(request(&folder, scheme)));
            let mut device = model.unwrap();
            let told = inventory(&events);
            let (mut host, host_told) = {
                let (model, events) = load(&request(&folder, scheme));
                (model.unwrap(), inventory(&events))
            };
            assert!(!told.is_empty() && told.len() == host_told.len());
            for (tensor, other) in told.iter().zip(&host_told) {
                assert_eq!(tensor.device, Device::Cuda(0), "{}", tensor.name);
                assert_eq!((&tensor.name, tensor.nmse), (&other.name, other.nmse));
                if other.dtype.is_quantized() {
                    assert_eq!((&tensor.dtype, tensor.bytes), (&other.dtype, other.bytes));
                }
            }
            let mut tokens = host.encode(&text, true).unwrap();
            tokens.truncate(200);
            let right = both_ways(&mut host, &tokens);
            let found = both_ways(&mut device, &tokens);
            let errors = [0, 1].map(|way| relative(&found[way], &right[way]));
            let value =
                |model: &mut Model| perplexity(model, &text, &|_| ()).unwrap().value.unwrap().get();
            let (there, here) = (value(&mut device), value(&mut host));
            println!(
                "{name} in {scheme}: relative errors {errors:?}, perplexity {there} and {here}"
            );
            assert!(errors.iter().all(|error| *error < 0.03), "{name} in {scheme}: {errors:?}");
            assert!((there / here - 1.0).abs() < 0.01, "{name} in {scheme}: {there}, {here}");
        }
    }
}

#[test]
fn logits_of_a_file_quantized_by_llama_cpp_match_the_cpu() {
    let _turn = exclusive();
    let file = fixtures().join("golden/llama_cpp/tiny-llama-q4_k_m.gguf");
    let request = gguf_alone(&file, Scheme::Q4KM);
    let (mut host, mut device) = (loaded(&request), loaded(&on_cuda(request)));
    let tokens: Vec<u32> = (0..100).map(|n| (n * 37 + n / 11) % 490).collect();
    let right = both_ways(&mut host, &tokens);
    let found = both_ways(&mut device, &tokens);
    let errors = [0, 1].map(|way| relative(&found[way], &right[way]));
    println!("relative errors {errors:?}");
    assert!(errors.iter().all(|error| *error < 0.03), "{errors:?}");
}

/// Returns a request for random weights with the shapes of a tiny model.
fn synthetic(config: &Path, scheme: Scheme, device: Device) -> Request {
    Request {
        evidence: Evidence::Synthetic,
        devices: vec![device],
        context: Some(2048),
        ..requests::load(model_files::synthetic(config), scheme)
    }
}

#[test]
fn random_weights_of_the_device_match_those_of_the_host() {
    let _turn = exclusive();
    for name in MODELS {
        let config = fixtures().join("tiny").join(name).join("config.json");
        for scheme in [Scheme::Q4_0, Scheme::Q4K, Scheme::Q5K, Scheme::Q6K, Scheme::Q8_0] {
            let mut host = loaded(&synthetic(&config, scheme, Device::Cpu));
            let mut device = loaded(&synthetic(&config, scheme, Device::Cuda(0)));
            let tokens: Vec<u32> = (0..40).map(|n| (n * 37) % 490).collect();
            let right = both_ways(&mut host, &tokens);
            let found = both_ways(&mut device, &tokens);
            let errors = [0, 1].map(|way| relative(&found[way], &right[way]));
            println!("{name} in {scheme}: relative errors {errors:?}");
            assert!(errors.iter().all(|error| *error < 0.05), "{name} in {scheme}: {errors:?}");
        }
    }
}

#[test]
fn a_device_that_does_not_exist_is_reported_by_name() {
    let _turn = exclusive();
    let request = request(&fixtures().join("tiny/llama"), Scheme::Q8_0);
    let failure = common::failed(&Request { devices: vec![Device::Cuda(99)], ..request });
    assert_eq!(failure.kind.name(), "device_not_found", "{failure}");
    assert!(failure.message.contains("cuda:99"), "{failure}");
}

#[test]
fn a_memory_limit_causes_an_out_of_memory_failure() {
    let _turn = exclusive();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    std::fs::write(&config, WIDE).unwrap();
    let request = synthetic(&config, Scheme::Q8_0, Device::Cuda(0));
    let small = Request { device_limit: Some(128 << 20), ..request.clone() };
    let failure = common::failed(&small);
    assert_eq!(failure.kind.name(), "device_memory", "{failure}");
    assert!(loaded(&Request { device_limit: Some(2 << 30), ..request }).context() > 0);
}

#[test]
fn unquantized_weights_keep_the_dtype_of_the_file() {
    let _turn = exclusive();
    let (_, events) = load(&on_cuda(request(&fixtures().join("tiny/llama"), Scheme::None)));
    for tensor in inventory(&events) {
        let expected = if tensor.role == Role::Norm { DType::F32 } else { DType::Bf16 };
        assert_eq!(tensor.dtype, expected, "{}", tensor.name);
    }
}

#[test]
fn a_question_of_token_ids_has_the_same_answer_twice() {
    let _turn = exclusive();
    let config = fixtures().join("tiny/mixtral/config.json");
    let mut model = loaded(&synthetic(&config, Scheme::Q4K, Device::Cuda(0)));
    let question = GenerationRequest {
        name: "fixed".into(),
        messages: Vec::new(),
        tokens: (0..100).collect(),
        max_tokens: 20,
    };
    let answer = modelgate_engine::answer(&mut model, &question, &|_| ()).unwrap();
    assert!(answer.repeated_identically && answer.non_finite_logits == 0);
    assert_eq!((answer.prompt_tokens, answer.text.as_str()), (question.tokens, ""));
}

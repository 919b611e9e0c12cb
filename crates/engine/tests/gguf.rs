//! Compares GGUF files of the tiny model with its safetensors files.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::quantized::GgmlDType;
use common::{
    failed, fixtures, gguf_alone, gguf_request, inventory, largest_difference, load, loaded,
    request, rows, tiny,
};
use modelgate_protocol::{DType, FailureKind, FinishReason, Scheme};
use modelgate_testkit::gguf::{GgufWriter, Vocabulary, uniform, write_from_safetensors};
use modelgate_testkit::safetensors_edit::{copy_model, edit, truncate};
use std::path::{Path, PathBuf};

fn written(dir: &Path, dtype: GgmlDType) -> PathBuf {
    let file = dir.join("tiny.gguf");
    write_from_safetensors(&tiny(), &file, &uniform(dtype));
    file
}

fn tokens() -> Vec<u32> {
    (0..300).map(|n| (n * 31 + n / 7) % 490).collect()
}

#[test]
fn logits_of_an_f32_file_match_the_safetensors_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), GgmlDType::F32);
    let found = loaded(&gguf_request(&file, Scheme::None)).forward(&tokens(), 0).unwrap();
    let expected = loaded(&request(&tiny(), Scheme::None)).forward(&tokens(), 0).unwrap();
    let difference = largest_difference(&rows(&found), &rows(&expected));
    println!("largest difference {difference:e}");
    assert!(difference <= 1e-4, "{difference}");
}

#[test]
fn quantized_blocks_of_a_file_are_loaded_unchanged() {
    // For these types, the quantizer of candle, which writes the file, equals that of the engine.
    for (scheme, ggml) in [(Scheme::Q8_0, GgmlDType::Q8_0), (Scheme::Q4_0, GgmlDType::Q4_0)] {
        let dir = tempfile::tempdir().unwrap();
        let file = written(dir.path(), ggml);
        let (model, events) = load(&gguf_request(&file, scheme));
        for tensor in inventory(&events) {
            let matrix = tensor.shape.len() == 2;
            let expected = if matrix { scheme.dtype().unwrap() } else { DType::F32 };
            assert_eq!(tensor.dtype, expected, "{}", tensor.name);
            assert_eq!((tensor.nmse, tensor.non_finite), (None, 0), "{}", tensor.name);
            assert_eq!(tensor.file, "tiny.gguf");
        }
        let found = rows(&model.unwrap().forward(&tokens(), 0).unwrap());
        let expected = rows(&loaded(&request(&tiny(), scheme)).forward(&tokens(), 0).unwrap());
        // The first token attends to itself only, whatever q and k are, so all other blocks are compared.
        let first = largest_difference(&found[..1], &expected[..1]);
        assert!(first <= 1e-5, "{scheme}: {first}");
        // Rows of q and k are permuted in the file, so their products are summed in another order, and
        // the rounding of activations to 8 bits amplifies the difference.
        let mean = mean_difference(&found, &expected);
        println!("{scheme}: difference {first:e} at the first token, {mean:e} in the mean");
        assert!(mean <= 0.02, "{scheme}: {mean}");
    }
}

fn mean_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    let differences = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs());
    differences.sum::<f32>() / (a.len() * a[0].len()) as f32
}

#[test]
fn every_block_type_loads_and_gives_finite_logits() {
    for ggml in [
        GgmlDType::F16,
        GgmlDType::BF16,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut model = loaded(&gguf_request(&written(dir.path(), ggml), Scheme::None));
        let question = common::question("What is the capital of France?");
        let answer = modelgate_engine::answer(&mut model, &question, &|_| ()).unwrap();
        assert!(answer.text.contains("Paris"), "{ggml:?}: {}", answer.text);
    }
    // These types have too few bits for correct answers of such a small model. Logits must be finite.
    for ggml in [GgmlDType::Q2K, GgmlDType::Q3K] {
        let dir = tempfile::tempdir().unwrap();
        let mut model = loaded(&gguf_request(&written(dir.path(), ggml), Scheme::None));
        let logits = rows(&model.forward(&tokens(), 0).unwrap());
        assert!(logits.iter().flatten().all(|logit| logit.is_finite()), "{ggml:?}");
    }
}

#[test]
fn a_file_of_another_type_than_requested_is_loaded_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), GgmlDType::Q4_0);
    let (model, events) = load(&gguf_request(&file, Scheme::Q8_0));
    assert!(model.is_ok());
    let matrices: Vec<_> =
        inventory(&events).into_iter().filter(|tensor| tensor.shape.len() == 2).collect();
    assert!(matrices.iter().all(|tensor| tensor.dtype == DType::Q4_0));
}

#[test]
fn damaged_files_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), GgmlDType::Q8_0);
    let sound = std::fs::read(&file).unwrap();
    let refused = |kind: FailureKind, words: &[&str]| {
        let failure = failed(&gguf_request(&file, Scheme::Q8_0));
        assert_eq!(failure.kind, kind, "{failure}");
        for word in words {
            assert!(failure.message.contains(word), "\"{word}\" in: {}", failure.message);
        }
    };
    truncate(&file, sound.len() as u64 - 100_000);
    refused(FailureKind::Corrupt, &["tiny.gguf", "truncated", "tensor"]);
    for length in [0, 3, 11, 40, 400, 1000] {
        truncate(&file, length);
        refused(FailureKind::Corrupt, &["tiny.gguf"]);
    }
    // Impossible numbers of tensors and of metadata.
    for at in [8, 16] {
        let mut bytes = sound.clone();
        bytes[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        std::fs::write(&file, bytes).unwrap();
        refused(FailureKind::Corrupt, &["tiny.gguf"]);
    }
    let at = sound.windows(5).position(|bytes| bytes == b"llama").unwrap();
    let mut bytes = sound;
    bytes[at..at + 5].copy_from_slice(b"mamba");
    std::fs::write(&file, bytes).unwrap();
    refused(FailureKind::Unsupported, &["tiny.gguf", "mamba"]);
}

#[test]
fn a_file_without_a_tokenizer_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), GgmlDType::Q8_0);
    let failure = failed(&common::gguf_alone(&file, Scheme::Q8_0));
    assert_eq!(failure.kind, FailureKind::Tokenizer);
    assert!(failure.hint.contains("tokenizer.json"), "{}", failure.hint);
}

#[test]
fn a_tokenizer_in_the_file_is_sufficient() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tiny.gguf");
    let dtype = uniform(GgmlDType::Q8_0);
    let writer = GgufWriter { vocabulary: Vocabulary::OfSourceFolder, ..GgufWriter::new(&dtype) };
    writer.write(&tiny(), &file);
    let mut alone = loaded(&common::gguf_alone(&file, Scheme::Q8_0));
    let mut with_companions = loaded(&gguf_request(&file, Scheme::Q8_0));
    let question = common::question("What is the capital of France?");
    let answer = modelgate_engine::answer(&mut alone, &question, &|_| ()).unwrap();
    assert!(answer.text.contains("Paris"), "{}", answer.text);
    let expected = modelgate_engine::answer(&mut with_companions, &question, &|_| ()).unwrap();
    assert_eq!(answer.prompt_tokens, expected.prompt_tokens);
    assert_eq!(answer.tokens, expected.tokens);
}

#[test]
fn tokens_that_end_a_turn_are_identified_by_their_text() {
    let dir = copy_model(&tiny());
    // the metadata name only the end token of the base model, as in many published files
    let path = dir.path().join("tokenizer_config.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["eos_token"] = "<|end_of_text|>".into();
    std::fs::write(path, config.to_string()).unwrap();
    let file = dir.path().join("tiny.gguf");
    let dtype = uniform(GgmlDType::Q8_0);
    GgufWriter { vocabulary: Vocabulary::OfSourceFolder, ..GgufWriter::new(&dtype) }
        .write(dir.path(), &file);
    let mut model = loaded(&gguf_alone(&file, Scheme::Q8_0));
    // <|end_of_text|>, <|eom_id|> and <|eot_id|>
    assert_eq!(model.stop_tokens(), [497, 504, 505]);
    let question = common::question("What is the capital of France?");
    let answer = modelgate_engine::answer(&mut model, &question, &|_| ()).unwrap();
    assert_eq!(answer.finish_reason, FinishReason::Stop, "{}", answer.text);
}

#[test]
fn an_expert_or_a_router_of_zeros_is_refused() {
    let dir = copy_model(&fixtures().join("tiny/mixtral"));
    let expert = "model.layers.1.block_sparse_moe.experts.3.w1.weight";
    edit(dir.path(), expert, |shard| {
        let raw = shard.get_mut(expert).unwrap();
        raw.data.fill(0);
    });
    let dtype = uniform(GgmlDType::Q8_0);
    let file = dir.path().join("tiny.gguf");
    GgufWriter { vocabulary: Vocabulary::OfSourceFolder, ..GgufWriter::new(&dtype) }
        .write(dir.path(), &file);
    let failure = failed(&gguf_alone(&file, Scheme::Q8_0));
    assert_eq!(failure.kind, FailureKind::Corrupt);
    let expected = "expert 3 of tensor blk.1.ffn_gate_exps.weight";
    assert!(failure.message.contains(expected), "{failure}");

    let dir = copy_model(&fixtures().join("tiny/mixtral"));
    let router = "model.layers.0.block_sparse_moe.gate.weight";
    edit(dir.path(), router, |shard| shard.get_mut(router).unwrap().data.fill(0));
    let failure = failed(&request(dir.path(), Scheme::Q4K));
    assert_eq!(failure.kind, FailureKind::Corrupt);
    assert!(failure.message.contains(router), "{failure}");
}

#[test]
fn missing_metadata_are_reported_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), GgmlDType::Q8_0);
    let sound = std::fs::read(&file).unwrap();
    for key in [
        "llama.block_count",
        "llama.embedding_length",
        "llama.context_length",
        "llama.attention.layer_norm_rms_epsilon",
    ] {
        let mut bytes = sound.clone();
        let at = bytes.windows(key.len()).position(|part| part == key.as_bytes()).unwrap();
        bytes[at + key.len() - 1] = b'X';
        std::fs::write(&file, bytes).unwrap();
        let failure = failed(&gguf_request(&file, Scheme::Q8_0));
        assert_eq!(failure.kind, FailureKind::Corrupt, "{failure}");
        assert!(failure.message.contains(&format!("{key} is missing")), "{failure}");
    }
}

#[test]
fn invalid_rope_frequency_factors_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), GgmlDType::Q8_0);
    let content = {
        let mut opened = std::fs::File::open(&file).unwrap();
        candle_core::quantized::gguf_file::Content::read(&mut opened).unwrap()
    };
    let at = content.tensor_data_offset + content.tensor_infos["rope_freqs.weight"].offset;
    for bad in [0f32, -1.0, f32::NAN] {
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[at as usize..at as usize + 4].copy_from_slice(&bad.to_le_bytes());
        std::fs::write(&file, bytes).unwrap();
        let failure = failed(&gguf_request(&file, Scheme::Q8_0));
        assert!(failure.message.contains("rope_freqs.weight"), "{failure}");
    }
}

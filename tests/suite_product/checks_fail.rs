//! Tests that each check can fail alone, on the measurement of a real model by a real worker. The
//! failures of `load` are tested in `bad_models`.

use crate::common::{Run, fixture};
use modelgate_harness::check::{Check, Status};
use modelgate_testkit::gguf::{self, GgmlDType};
use modelgate_testkit::safetensors_edit as edit;
use std::path::Path;
use tempfile::TempDir;

/// Returns a manifest entry for the tiny model at `path` in q8_0, with the lines `expectations`.
fn model_entry(path: &Path, expectations: &str) -> String {
    format!(
        "[[model]]\nid = \"tiny\"\npath = \"{}\"\nquantization = \"q8_0\"\n{expectations}\n",
        path.display()
    )
}

fn perplexity(max: f64) -> String {
    let text = fixture("tiny/perplexity.txt");
    format!("expect.perplexity = {{ max = {max}, text = \"{}\" }}\n", text.display())
}

fn question(expect: &str, max_tokens: u32) -> String {
    format!(
        "generation = {{ prompt = \"What is the capital of France?\", max_tokens = {max_tokens}, \
         expect = [{expect}] }}\n"
    )
}

/// Runs the tiny model and asserts that only `check` fails, with a message that contains
/// `message_parts`.
fn assert_fails(path: &Path, expectations: &str, check: Check, message_parts: &[&str]) {
    let ended = Run::manifest(&model_entry(path, expectations)).run();
    let message = ended.assert_only_fails("tiny", check, Status::Passed);
    for part in message_parts {
        assert!(message.contains(part), "expected {part:?} in {message}");
    }
    let printed = format!("{}::{}", "tiny", check.name());
    assert!(
        ended.stdout.contains(&printed) && ended.stdout.contains(&message),
        "{}",
        ended.output()
    );
    let summary = ended.summary.as_deref().expect("a summary");
    assert!(summary.starts_with("FAILED: tiny (0 of 1 models validated)"), "{summary}");
}

#[test]
fn a_model_within_its_expectations_passes_all_checks() {
    let models =
        model_entry(&fixture("tiny/llama"), &(perplexity(3.0) + &question("\"Paris\"", 32)));
    let ended = Run::manifest(&models).run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    ended.assert_passes("tiny");
}

#[test]
fn a_load_over_the_time_budget_fails() {
    assert_fails(
        &fixture("tiny/llama"),
        &(perplexity(3.0) + &question("\"Paris\"", 32) + "expect.load_time = { cached = \"1ms\" }"),
        Check::TimeBudget,
        &["times the budget of 1 ms", "the busiest activity was"],
    );
}

#[test]
fn memory_outside_the_range_fails() {
    let tiny = fixture("tiny/llama");
    let valid = perplexity(3.0) + &question("\"Paris\"", 32);
    assert_fails(
        &tiny,
        &(valid.clone() + "expect.ram = { max = \"12MB\" }\ncontext = 1024"),
        Check::MemoryRange,
        &["peak RAM is", "above the range: expected at most 12.0 MB", "predicted: "],
    );
    assert_fails(
        &tiny,
        &(valid + "expect.ram = { min = \"2GB\" }"),
        Check::MemoryRange,
        &["peak RAM is", "below the range: expected at least 2.00 GB"],
    );
}

#[test]
fn an_impossible_memory_range_is_reported_before_loading() {
    let valid = perplexity(3.0) + &question("\"Paris\"", 32);
    let models = model_entry(
        &fixture("tiny/llama"),
        &(valid + "device = \"cpu\"\nexpect.ram = { max = \"3MB\" }"),
    );
    let ended = Run::manifest(&models).run();
    let message = ended.assert_only_fails("tiny", Check::MemoryRange, Status::Blocked);
    assert!(message.contains("but this model needs at least"), "{message}");
    assert!(message.contains("2,623,744 parameters"), "{message}");
    assert!(ended.model("tiny").measurement.phases.is_empty(), "no worker was started");
}

#[test]
fn generation_with_an_unexpected_answer_fails() {
    assert_fails(
        &fixture("tiny/llama"),
        &(perplexity(3.0) + &question("\"Berlin\", \"Rome\"", 32)),
        Check::Generation,
        &["expected \"Berlin\" or \"Rome\"", "Paris"],
    );
}

#[test]
fn generation_without_a_stop_token_fails() {
    assert_fails(
        &fixture("tiny/llama"),
        &(perplexity(3.0) + &question("\"capital\"", 4)),
        Check::Generation,
        &["no stop within 4 tokens"],
    );
}

#[test]
fn generation_of_a_damaged_model_fails() {
    let model = edit::copy_model(&fixture("tiny/llama"));
    for layer in 0..4 {
        for name in ["mlp.up_proj", "mlp.down_proj", "self_attn.v_proj"] {
            let tensor = format!("model.layers.{layer}.{name}.weight");
            edit::add_noise(model.path(), &tensor, 1.0, layer);
        }
    }
    // the damaged model may still answer "Paris", but its perplexity is always too high
    let ended = Run::manifest(&model_entry(
        model.path(),
        &(perplexity(3.0) + &question("\"the\", \"is\", \"a\", \"Paris\"", 64)),
    ))
    .run();
    ended.assert_only_fails("tiny", Check::Generation, Status::Passed);
    let value = ended.model("tiny").measurement.perplexity.as_ref().and_then(|p| p.value);
    assert!(value.is_some_and(|value| value.get() > 3.0), "{value:?}");
}

#[test]
fn generation_with_the_wrong_rope_order_fails() {
    // rows of q in the interleaved order: shapes and values are valid, the output is not
    let model = edit::copy_model(&fixture("tiny/llama"));
    for layer in 0..4 {
        edit::edit(
            model.path(),
            &format!("model.layers.{layer}.self_attn.q_proj.weight"),
            |shard| {
                let name = format!("model.layers.{layer}.self_attn.q_proj.weight");
                let raw = shard.get_mut(&name).expect("the tensor");
                let values = raw.to_f32();
                let mut mixed = values.clone();
                for row in 0..256 {
                    let (head, within) = (row / 32, row % 32);
                    let source = head * 32 + within / 2 + (within % 2) * 16;
                    mixed[row * 256..][..256].copy_from_slice(&values[source * 256..][..256]);
                }
                raw.set_f32(&mixed);
            },
        );
    }
    assert_fails(
        model.path(),
        &(perplexity(3.0) + &question("\"Paris\"", 64)),
        Check::Generation,
        &["expected"],
    );
}

/// Returns a folder with the tokenizer and generation config of the tiny Llama, for a GGUF file.
fn folder_for_gguf() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        let file = fixture("tiny/llama").join(name);
        std::fs::copy(file, folder.path().join(name)).expect("copied");
    }
    folder
}

#[test]
fn quantization_of_a_file_with_another_type_fails() {
    let (folder, tiny) = (folder_for_gguf(), fixture("tiny/llama"));
    let path = folder.path().join("model.gguf");
    gguf::write_from_safetensors(&tiny, &path, &gguf::uniform(GgmlDType::Q4K));
    assert_fails(
        &path,
        &(perplexity(3.0) + &question("\"Paris\"", 32)),
        Check::Quantization,
        &["is resident in q4_k, expected q8_0", "and 29 more of 40 tensors"],
    );
}

#[test]
fn quantization_of_a_wrong_mix_fails() {
    let (folder, tiny) = (folder_for_gguf(), fixture("tiny/llama"));
    let assert_fails = |dtype: &dyn Fn(&str, &[usize]) -> GgmlDType, message_part: &str| {
        let path = folder.path().join("model.gguf");
        gguf::write_from_safetensors(&tiny, &path, dtype);
        let valid = perplexity(3.0) + &question("\"Paris\"", 32);
        let models = model_entry(&path, &valid).replace("\"q8_0\"", "\"q4_k_m\"");
        let message = Run::manifest(&models).run().assert_only_fails(
            "tiny",
            Check::Quantization,
            Status::Passed,
        );
        assert!(message.contains(message_part), "expected {message_part:?} in {message}");
    };
    // a type that the mix contains, but not for this tensor
    let gate = |name: &str, shape: &[usize]| match name {
        "blk.1.ffn_gate.weight" => GgmlDType::Q6K,
        _ => gguf::uniform(GgmlDType::Q4K)(name, shape),
    };
    assert_fails(&gate, "blk.1.ffn_gate.weight of model.gguf is resident in q6_k, expected q4_k");
    // allowed types, but no sensitive matrix has more than 4 bits
    assert_fails(
        &gguf::uniform(GgmlDType::Q4K),
        "take 4.50 bits per weight, expected 4.69 to 4.88 for q4_k_m",
    );
    // one matrix that is not quantized
    let unquantized = |name: &str, shape: &[usize]| match name {
        "blk.2.ffn_down.weight" => GgmlDType::F16,
        _ => gguf::uniform(GgmlDType::Q4K)(name, shape),
    };
    assert_fails(
        &unquantized,
        "blk.2.ffn_down.weight of model.gguf is resident in f32, expected q4_k",
    );
}

//! Each of the five checks fails on the measurement of a real model by a real worker, and it alone.
//! That `load` fails is shown in `bad_models`, for each way in which it can.

use crate::common::{Run, fixture};
use modelgate_harness::check::{Check, Status};
use modelgate_testkit::gguf::{self, GgmlDType};
use modelgate_testkit::safetensors_edit as edit;
use std::path::Path;
use tempfile::TempDir;

/// A manifest entry for the tiny model at `path` in q8_0 with these expectations.
fn expecting(path: &Path, expectations: &str) -> String {
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

/// Runs the tiny model with these expectations; `check` alone fails, and says this.
fn fails(path: &Path, expectations: &str, check: Check, says: &[&str]) {
    let ended = Run::manifest(&expecting(path, expectations)).run();
    let message = ended.fails_only("tiny", check, Status::Passed);
    for said in says {
        assert!(message.contains(said), "expected {said:?} in {message}");
    }
    let printed = format!("{}::{}", "tiny", check.name());
    assert!(ended.stdout.contains(&printed) && ended.stdout.contains(&message), "{}", ended.all());
    let summary = ended.summary.as_deref().expect("a summary");
    assert!(summary.starts_with("FAILED: tiny (0 of 1 models validated)"), "{summary}");
}

#[test]
fn as_expected_all_pass() {
    let models = expecting(&fixture("tiny/llama"), &(perplexity(3.0) + &question("\"Paris\"", 32)));
    let ended = Run::manifest(&models).run();
    assert_eq!(ended.code, Some(0), "{}", ended.all());
    ended.passes("tiny");
}

#[test]
fn time_budget() {
    fails(
        &fixture("tiny/llama"),
        &(perplexity(3.0) + &question("\"Paris\"", 32) + "expect.load_time = { cached = \"1ms\" }"),
        Check::TimeBudget,
        &["times the budget of 1 ms", "busiest was"],
    );
}

#[test]
fn memory_range() {
    let tiny = fixture("tiny/llama");
    let sound = perplexity(3.0) + &question("\"Paris\"", 32);
    fails(
        &tiny,
        &(sound.clone() + "expect.ram = { max = \"12MB\" }\ncontext = 1024"),
        Check::MemoryRange,
        &["peak RAM is", "above at most 12.0 MB", "predicted: "],
    );
    fails(
        &tiny,
        &(sound + "expect.ram = { min = \"2GB\" }"),
        Check::MemoryRange,
        &["peak RAM is", "below at least 2.00 GB"],
    );
}

#[test]
fn a_range_that_no_load_could_meet_is_refused_before_loading() {
    let sound = perplexity(3.0) + &question("\"Paris\"", 32);
    let models = expecting(
        &fixture("tiny/llama"),
        &(sound + "device = \"cpu\"\nexpect.ram = { max = \"3MB\" }"),
    );
    let ended = Run::manifest(&models).run();
    let message = ended.fails_only("tiny", Check::MemoryRange, Status::Blocked);
    assert!(message.contains("no load of this model can meet"), "{message}");
    assert!(message.contains("2,623,744 parameters"), "{message}");
    assert!(ended.model("tiny").measurement.phases.is_empty(), "no worker was started");
}

#[test]
fn generation_of_a_mis_expected_answer() {
    fails(
        &fixture("tiny/llama"),
        &(perplexity(3.0) + &question("\"Berlin\", \"Rome\"", 32)),
        Check::Generation,
        &["expected \"Berlin\" or \"Rome\"", "Paris"],
    );
}

#[test]
fn generation_without_a_stop() {
    fails(
        &fixture("tiny/llama"),
        &(perplexity(3.0) + &question("\"capital\"", 4)),
        Check::Generation,
        &["no stop within 4 tokens"],
    );
}

#[test]
fn generation_of_a_damaged_model() {
    let model = edit::copy_model(&fixture("tiny/llama"));
    for layer in 0..4 {
        for name in ["mlp.up_proj", "mlp.down_proj", "self_attn.v_proj"] {
            let tensor = format!("model.layers.{layer}.{name}.weight");
            edit::add_noise(model.path(), &tensor, 1.0, layer);
        }
    }
    // damaged so, it may still say Paris; its perplexity cannot be lucky
    let ended = Run::manifest(&expecting(
        model.path(),
        &(perplexity(3.0) + &question("\"the\", \"is\", \"a\", \"Paris\"", 64)),
    ))
    .run();
    ended.fails_only("tiny", Check::Generation, Status::Passed);
    let value = ended.model("tiny").measurement.perplexity.as_ref().and_then(|p| p.value);
    assert!(value.is_some_and(|value| value.get() > 3.0), "{value:?}");
}

#[test]
fn generation_of_interleaved_weights_taken_for_half_split() {
    // rows of q and k in the other order: the shapes fit, every value is there, nonsense comes out
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
    fails(
        model.path(),
        &(perplexity(3.0) + &question("\"Paris\"", 64)),
        Check::Generation,
        &["expected"],
    );
}

/// A folder with what the tiny Llama has beside its weights.
fn folder_for_gguf() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        let file = fixture("tiny/llama").join(name);
        std::fs::copy(file, folder.path().join(name)).expect("copied");
    }
    folder
}

#[test]
fn quantization_of_a_file_made_with_another() {
    let (folder, tiny) = (folder_for_gguf(), fixture("tiny/llama"));
    let path = folder.path().join("model.gguf");
    gguf::write_from_safetensors(&tiny, &path, &gguf::uniform(GgmlDType::Q4K));
    fails(
        &path,
        &(perplexity(3.0) + &question("\"Paris\"", 32)),
        Check::Quantization,
        &["is resident in q4_k, expected q8_0", "and 29 more of 40 tensors"],
    );
}

#[test]
fn quantization_of_a_mix_that_is_none() {
    let (folder, tiny) = (folder_for_gguf(), fixture("tiny/llama"));
    let fails = |dtype: &dyn Fn(&str, &[usize]) -> GgmlDType, says: &str| {
        let path = folder.path().join("model.gguf");
        gguf::write_from_safetensors(&tiny, &path, dtype);
        let sound = perplexity(3.0) + &question("\"Paris\"", 32);
        let models = expecting(&path, &sound).replace("\"q8_0\"", "\"q4_k_m\"");
        let message =
            Run::manifest(&models).run().fails_only("tiny", Check::Quantization, Status::Passed);
        assert!(message.contains(says), "expected {says:?} in {message}");
    };
    // types that the mix has, but not where it has them
    let gate = |name: &str, shape: &[usize]| match name {
        "blk.1.ffn_gate.weight" => GgmlDType::Q6K,
        _ => gguf::uniform(GgmlDType::Q4K)(name, shape),
    };
    fails(&gate, "blk.1.ffn_gate.weight of model.gguf is resident in q6_k, expected q4_k");
    // all allowed, and none of the matrices that suffer most has more bits
    fails(&gguf::uniform(GgmlDType::Q4K), "take 4.50 bits per weight, and those of q4_k_m");
    // one matrix that was forgotten
    let forgotten = |name: &str, shape: &[usize]| match name {
        "blk.2.ffn_down.weight" => GgmlDType::F16,
        _ => gguf::uniform(GgmlDType::Q4K)(name, shape),
    };
    fails(&forgotten, "blk.2.ffn_down.weight of model.gguf is resident in f32, expected q4_k");
}

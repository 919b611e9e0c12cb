//! Synthetic models: variants whose weights are made in place of nothing but a config, and files of
//! random weights. By the real worker where it can run them, by a scripted one where a true size or
//! a device is needed.

use crate::common::{Ended, Run, fixture};
use modelgate_harness::check::{Check, Status};
use modelgate_protocol::{DType, Evidence};
use modelgate_testkit::gguf::{self, GgmlDType};
use modelgate_testkit::safetensors_edit as edit;
use modelgate_testkit::workers::made_up_with;
use std::path::Path;
use tempfile::TempDir;

/// A folder with a `config.json` and nothing else.
fn config_alone(family: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let config = fixture(&format!("tiny/{family}/config.json"));
    std::fs::copy(config, folder.path().join("config.json")).expect("copied");
    folder
}

/// What a tiny model takes on the CPU is mostly what the process takes for itself.
const BOUND: &str = "expect.ram = { max = \"250MB\" }";

/// An entry for the model at `path` that asks for its synthetic variant.
fn entry(id: &str, path: &Path, quantization: &str) -> String {
    format!(
        "[[model]]\nid = \"{id}\"\npath = \"{}\"\nquantization = \"{quantization}\"\n\
         device = \"cpu\"\nsynthetic = true\n{BOUND}\n",
        path.display()
    )
}

/// An entry for files of random weights.
fn random_files(path: &Path, quantization: &str) -> String {
    format!(
        "[[model]]\nid = \"random\"\npath = \"{}\"\nquantization = \"{quantization}\"\n\
         device = \"cpu\"\nevidence = \"synthetic\"\n{BOUND}\n",
        path.display()
    )
}

fn passes_from_a_config_alone(family: &str) {
    let folder = config_alone(family);
    let schemes = [("none", DType::F32), ("q4_k", DType::Q4K), ("q8_0", DType::Q8_0)];
    let models: String = schemes
        .iter()
        .map(|(scheme, _)| entry(&format!("m@{scheme}"), folder.path(), scheme))
        .collect();
    let ended = Run::manifest(&models).arg("@synthetic").run();
    assert_eq!(ended.code, Some(0), "{}", ended.all());
    assert!(ended.stdout.contains("12 passed; 0 failed"), "{}", ended.all());
    let summary = ended.summary.as_deref().expect("a summary");
    let first = summary.lines().next();
    assert_eq!(first, Some("3 of 3 models validated, 3 of them synthetic"));
    assert!(summary.contains("Evidence: synthetic."), "{summary}");
    for (scheme, dtype) in schemes {
        let id = format!("m@{scheme}@synthetic");
        ended.passes(&id);
        let model = ended.model(&id);
        assert_eq!(model.identity.evidence, Evidence::Synthetic);
        let seen = &model.measurement;
        assert!(seen.files.is_empty() && seen.perplexity.is_none(), "nothing was read");
        let matrix = seen.tensors.list.iter().find(|tensor| tensor.name.ends_with("v_proj.weight"));
        assert_eq!(matrix.map(|tensor| &tensor.dtype), Some(&dtype), "{id}");
        let generation = &seen.generations[0];
        assert_eq!((generation.prompt_tokens.len(), generation.name.as_str()), (512, "fixed"));
        assert_eq!(generation.text, "", "what random weights say is not shown");
    }
}

#[test]
fn llama_from_a_config_alone() {
    passes_from_a_config_alone("llama");
}

#[test]
fn mixtral_from_a_config_alone() {
    passes_from_a_config_alone("mixtral");
}

#[test]
fn qwen2_5_omni_from_a_config_alone() {
    passes_from_a_config_alone("qwen2.5-omni");
}

#[test]
fn a_model_and_its_variant_stand_in_rows_of_their_own() {
    let tiny = fixture("tiny/llama");
    let real = crate::common::entry("tiny", &tiny, "q8_0", "device = \"cpu\"\nsynthetic = true");
    let ended = Run::manifest(&real).run();
    assert_eq!(ended.code, Some(0), "{}", ended.all());
    ended.passes("tiny");
    ended.passes("tiny@synthetic");
    assert_eq!(ended.model("tiny").identity.evidence, Evidence::Real);
    assert_eq!(ended.model("tiny@synthetic").identity.evidence, Evidence::Synthetic);
    let (real, made) = (ended.model("tiny"), ended.model("tiny@synthetic"));
    assert_eq!(real.measurement.tensors.by_type, made.measurement.tensors.by_type);
    let summary = ended.summary.as_deref().expect("a summary");
    assert!(summary.contains("| tiny | passed | passed |"), "{summary}");
    assert!(summary.contains("| tiny@synthetic | passed | not planned |"), "{summary}");
    assert!(summary.starts_with("2 of 2 models validated, 1 of them synthetic\n"), "{summary}");
}

#[test]
fn files_of_random_weights_need_no_tokenizer_and_pass_all_five() {
    let model = edit::copy_model(&fixture("tiny/llama"));
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::remove_file(model.path().join(name)).expect("removed");
    }
    let file = model.path().join("model.gguf");
    gguf::write_from_safetensors(model.path(), &file, &gguf::uniform(GgmlDType::Q4_0));
    for (path, scheme) in [(model.path(), "q4_k"), (&file, "q4_0")] {
        let ended = Run::manifest(&random_files(path, scheme)).run();
        assert_eq!(ended.code, Some(0), "{}", ended.all());
        ended.passes("random");
        assert!(ended.stdout.contains("test [synthetic] random::load"), "{}", ended.stdout);
        let model = ended.model("random");
        assert_eq!(model.identity.evidence, Evidence::Synthetic);
        assert!(!model.measurement.files.is_empty(), "the files were read");
        let summary = ended.summary.as_deref().expect("a summary");
        assert!(summary.contains("## random (synthetic)"), "{summary}");
        assert!(summary.contains("| random (synthetic) | passed |"), "{summary}");
    }
}

#[test]
fn random_weights_are_not_taken_for_a_model_that_answers() {
    // without the word on it the same files are judged by what they say
    let folder = TempDir::new().expect("a folder");
    let config = std::fs::read_to_string(fixture("tiny/llama/config.json")).expect("a config");
    let tokenizer = fixture("tiny/llama");
    modelgate_testkit::shapes::write_random_model(folder.path(), &config, 3, &tokenizer);
    let ended = Run::manifest(&random_files(folder.path(), "q8_0")).run();
    ended.passes("random");
    let real = crate::common::entry("random", folder.path(), "q8_0", "device = \"cpu\"");
    let ended = Run::manifest(&real).run();
    ended.fails_only("random", Check::Generation, Status::Passed);
}

/// Runs the synthetic variant of the tiny Llama by the made-up worker, with `from` replaced by `to`
/// in its source.
fn made_up(models: &str, from: &str, to: &str) -> Ended {
    let program = made_up_with(&[(from, to)]);
    Run::manifest(models).arg("@synthetic").env("MODELGATE_WORKER", program.path()).run()
}

fn tiny() -> (TempDir, String) {
    let folder = config_alone("llama");
    let models = entry("tiny", folder.path(), "q8_0");
    (folder, models)
}

#[test]
fn an_error_against_no_source_is_not_asked_for() {
    let (_folder, models) = tiny();
    let ended = made_up(&models, "nmse=None if norm else 1e-6", "nmse=None");
    assert_eq!(ended.code, Some(0), "{}", ended.all());
    ended.passes("tiny@synthetic");
}

#[test]
fn generation_that_is_not_what_was_asked_for_fails_it_alone() {
    let (_folder, models) = tiny();
    for (from, to, says) in [
        ("prompt_tokens=fixed or [1, 2]", "prompt_tokens=[1, 2]", "not the 512 requested ones"),
        ("[3] * generation[\"max_tokens\"]", "[3] * 9", "9 tokens were generated, expected 64"),
        ("nonfinite_logits=0", "nonfinite_logits=7", "7 logits are NaN or infinite"),
        ("repeated_identically=True", "repeated_identically=False", "in the second run"),
    ] {
        let ended = made_up(&models, from, to);
        let message = ended.fails_only("tiny@synthetic", Check::Generation, Status::Passed);
        assert!(message.contains(says), "expected {says:?} in {message}");
    }
}

#[test]
fn a_tensor_of_another_type_or_none_fails() {
    let (_folder, models) = tiny();
    let ended = made_up(
        &models,
        "else \"q8_0\", bytes=4 * size if norm else size // 32 * 34",
        "else \"bf16\", bytes=4 * size if norm else 2 * size",
    );
    let message = ended.fails_only("tiny@synthetic", Check::Quantization, Status::Passed);
    assert!(message.contains("is resident in bf16, expected q8_0"), "{message}");
    let ended = made_up(&models, "    yield \"model.norm\", [hidden]\n", "");
    let message = ended.fails_only("tiny@synthetic", Check::Load, Status::Passed);
    assert!(message.contains("model.norm.weight"), "{message}");
}

#[test]
fn on_a_device_a_prefix_must_agree_with_the_cpu() {
    let (_folder, models) = tiny();
    let verdict = |agreement: &str| {
        let source = format!("devices=[\"cuda:0\"])\n{agreement}");
        let ended = made_up(&models, "devices=[\"cpu\"])\n", &source);
        ended.verdict("tiny@synthetic", Check::Generation).clone()
    };
    let tell = |layers: u32, error: &str| {
        format!("tell(\"agreement\", layers={layers}, tokens=16, relative_error={error})\n")
    };
    let agrees = verdict(&tell(2, "0.01"));
    assert_eq!(agrees.status, Status::Passed, "{agrees:?}");
    for (agreement, says) in [
        (String::new(), "no prefix of the model was compared"),
        (tell(2, "0.2"), "differ from the CPU's by 0.200"),
        (tell(2, "None"), "NaN or infinity"),
        (tell(1, "0.01"), "expected 2 layers"),
    ] {
        let verdict = verdict(&agreement);
        assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
        let message = verdict.message.as_deref().unwrap_or_default();
        assert!(message.contains(says), "expected {says:?} in {message}");
    }
}

//! Tests of synthetic models: variants whose weights are generated from a config, and files of
//! random weights. The tests use the real worker where possible, and a scripted one to report
//! invalid values or a device.

use crate::common::{FinishedRun, Run, fixture};
use modelgate_harness::check::{Check, Status};
use modelgate_protocol::{DType, Evidence};
use modelgate_testkit::gguf::{self, GgmlDType};
use modelgate_testkit::safetensors_edit as edit;
use modelgate_testkit::workers::scripted_worker_with;
use std::path::Path;
use tempfile::TempDir;

/// Returns a folder that contains only the `config.json` of a tiny model.
fn config_folder(family: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let config = fixture(&format!("tiny/{family}/config.json"));
    std::fs::copy(config, folder.path().join("config.json")).expect("copied");
    folder
}

/// The memory range of a tiny model on the CPU. The process itself uses most of it.
const MEMORY_RANGE: &str = "expect.ram = { max = \"250MB\" }";

/// Returns a manifest entry for the model at `path` and its synthetic variant.
fn entry(id: &str, path: &Path, quantization: &str) -> String {
    format!(
        "[[model]]\nid = \"{id}\"\npath = \"{}\"\nquantization = \"{quantization}\"\n\
         device = \"cpu\"\nsynthetic = true\n{MEMORY_RANGE}\n",
        path.display()
    )
}

/// Returns a manifest entry for files of random weights.
fn random_files_entry(path: &Path, quantization: &str) -> String {
    format!(
        "[[model]]\nid = \"random\"\npath = \"{}\"\nquantization = \"{quantization}\"\n\
         device = \"cpu\"\nevidence = \"synthetic\"\n{MEMORY_RANGE}\n",
        path.display()
    )
}

/// Asserts that the synthetic variants of a family pass with the config only, in three schemes.
fn assert_config_only_passes(family: &str) {
    let folder = config_folder(family);
    let schemes = [("none", DType::F32), ("q4_k", DType::Q4K), ("q8_0", DType::Q8_0)];
    let models: String = schemes
        .iter()
        .map(|(scheme, _)| entry(&format!("m@{scheme}"), folder.path(), scheme))
        .collect();
    let ended = Run::manifest(&models).arg("@synthetic").run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    assert!(ended.stdout.contains("12 passed; 0 failed"), "{}", ended.output());
    let summary = ended.summary.as_deref().expect("a summary");
    let first = summary.lines().next();
    assert_eq!(first, Some("3 of 3 models validated, 3 of them synthetic"));
    assert!(summary.contains("Evidence: synthetic."), "{summary}");
    for (scheme, dtype) in schemes {
        let id = format!("m@{scheme}@synthetic");
        ended.assert_passes(&id);
        let model = ended.model(&id);
        assert_eq!(model.identity.evidence, Evidence::Synthetic);
        let measurement = &model.measurement;
        assert!(
            measurement.files.is_empty() && measurement.perplexity.is_none(),
            "no weights and no text are read"
        );
        let matrix =
            measurement.tensors.list.iter().find(|tensor| tensor.name.ends_with("v_proj.weight"));
        assert_eq!(matrix.map(|tensor| &tensor.dtype), Some(&dtype), "{id}");
        let generation = &measurement.generations[0];
        assert_eq!((generation.prompt_tokens.len(), generation.name.as_str()), (512, "fixed"));
        assert_eq!(generation.text, "", "text from random weights is not reported");
    }
}

#[test]
fn a_synthetic_llama_needs_only_a_config() {
    assert_config_only_passes("llama");
}

#[test]
fn a_synthetic_mixtral_needs_only_a_config() {
    assert_config_only_passes("mixtral");
}

#[test]
fn a_synthetic_qwen2_5_omni_needs_only_a_config() {
    assert_config_only_passes("qwen2.5-omni");
}

#[test]
fn a_model_and_its_synthetic_variant_have_separate_rows() {
    let tiny = fixture("tiny/llama");
    let real = crate::common::entry("tiny", &tiny, "q8_0", "device = \"cpu\"\nsynthetic = true");
    let ended = Run::manifest(&real).run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    ended.assert_passes("tiny");
    ended.assert_passes("tiny@synthetic");
    assert_eq!(ended.model("tiny").identity.evidence, Evidence::Real);
    assert_eq!(ended.model("tiny@synthetic").identity.evidence, Evidence::Synthetic);
    let (real, synthetic) = (ended.model("tiny"), ended.model("tiny@synthetic"));
    assert_eq!(real.measurement.tensors.by_type, synthetic.measurement.tensors.by_type);
    let summary = ended.summary.as_deref().expect("a summary");
    assert!(summary.contains("| tiny | passed | passed |"), "{summary}");
    assert!(summary.contains("| tiny@synthetic | passed | not planned |"), "{summary}");
    assert!(summary.starts_with("2 of 2 models validated, 1 of them synthetic\n"), "{summary}");
}

#[test]
fn files_of_random_weights_pass_without_a_tokenizer() {
    let model = edit::copy_model(&fixture("tiny/llama"));
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::remove_file(model.path().join(name)).expect("removed");
    }
    let file = model.path().join("model.gguf");
    gguf::write_from_safetensors(model.path(), &file, &gguf::uniform(GgmlDType::Q4_0));
    for (path, scheme) in [(model.path(), "q4_k"), (&file, "q4_0")] {
        let ended = Run::manifest(&random_files_entry(path, scheme)).run();
        assert_eq!(ended.code, Some(0), "{}", ended.output());
        ended.assert_passes("random");
        assert!(ended.stdout.contains("test [synthetic] random::load"), "{}", ended.stdout);
        let model = ended.model("random");
        assert_eq!(model.identity.evidence, Evidence::Synthetic);
        assert!(!model.measurement.files.is_empty(), "the files are read");
        let summary = ended.summary.as_deref().expect("a summary");
        assert!(summary.contains("## random (synthetic)"), "{summary}");
        assert!(summary.contains("| random (synthetic) | passed |"), "{summary}");
    }
}

#[test]
fn random_weights_without_synthetic_evidence_fail_generation() {
    // without `evidence = "synthetic"`, the answers of the same files are judged
    let folder = TempDir::new().expect("a folder");
    let config = std::fs::read_to_string(fixture("tiny/llama/config.json")).expect("a config");
    let tokenizer = fixture("tiny/llama");
    modelgate_testkit::shapes::write_random_model(folder.path(), &config, 3, &tokenizer);
    let ended = Run::manifest(&random_files_entry(folder.path(), "q8_0")).run();
    ended.assert_passes("random");
    let real = crate::common::entry("random", folder.path(), "q8_0", "device = \"cpu\"");
    let ended = Run::manifest(&real).run();
    ended.assert_only_fails("random", Check::Generation, Status::Passed);
}

/// Runs the synthetic variants of `models` with a copy of the scripted worker in whose source
/// `from` is replaced by `to`.
fn run_changed(models: &str, from: &str, to: &str) -> FinishedRun {
    let program = scripted_worker_with(&[(from, to)]);
    Run::manifest(models).arg("@synthetic").env("MODELGATE_WORKER", program.path()).run()
}

/// Returns a folder with the config of the tiny Llama, and its manifest entry.
fn tiny_entry() -> (TempDir, String) {
    let folder = config_folder("llama");
    let models = entry("tiny", folder.path(), "q8_0");
    (folder, models)
}

#[test]
fn synthetic_weights_need_no_quantization_error() {
    let (_folder, models) = tiny_entry();
    let ended = run_changed(&models, "nmse=None if norm else 1e-6", "nmse=None");
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    ended.assert_passes("tiny@synthetic");
}

#[test]
fn a_generation_that_differs_from_the_request_fails_only_generation() {
    let (_folder, models) = tiny_entry();
    for (from, to, message_part) in [
        ("prompt_tokens=fixed or [1, 2]", "prompt_tokens=[1, 2]", "are not the 512 requested ones"),
        ("[3] * generation[\"max_tokens\"]", "[3] * 9", "9 tokens were generated, expected 64"),
        ("non_finite_logits=0", "non_finite_logits=7", "7 logits are NaN or infinite"),
        ("repeated_identically=True", "repeated_identically=False", "in the second run"),
    ] {
        let ended = run_changed(&models, from, to);
        let message = ended.assert_only_fails("tiny@synthetic", Check::Generation, Status::Passed);
        assert!(message.contains(message_part), "expected {message_part:?} in {message}");
    }
}

#[test]
fn a_tensor_of_another_type_and_a_missing_tensor_fail() {
    let (_folder, models) = tiny_entry();
    let ended = run_changed(
        &models,
        "else \"q8_0\", bytes=4 * size if norm else size // 32 * 34",
        "else \"bf16\", bytes=4 * size if norm else 2 * size",
    );
    let message = ended.assert_only_fails("tiny@synthetic", Check::Quantization, Status::Passed);
    assert!(message.contains("is resident in bf16, expected q8_0"), "{message}");
    let ended = run_changed(&models, "    yield \"model.norm\", [hidden]\n", "");
    let message = ended.assert_only_fails("tiny@synthetic", Check::Load, Status::Passed);
    assert!(message.contains("model.norm.weight"), "{message}");
}

#[test]
fn first_layers_on_a_gpu_that_differ_from_the_cpu_fail_generation() {
    let (_folder, models) = tiny_entry();
    let verdict = |event: &str| {
        let source = format!("devices=[\"cuda:0\"])\n{event}");
        let ended = run_changed(&models, "devices=[\"cpu\"])\n", &source);
        ended.verdict("tiny@synthetic", Check::Generation).clone()
    };
    let agreement = |layers: u32, error: &str| {
        format!("emit(\"agreement\", layers={layers}, tokens=16, relative_error={error})\n")
    };
    let agrees = verdict(&agreement(2, "0.01"));
    assert_eq!(agrees.status, Status::Passed, "{agrees:?}");
    for (event, message_part) in [
        (String::new(), "no prefix of the model was compared"),
        (agreement(2, "0.2"), "differ from those of the CPU by 0.200"),
        (agreement(2, "None"), "NaN or infinity"),
        (agreement(1, "0.01"), "expected 2 layers"),
    ] {
        let verdict = verdict(&event);
        assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
        let message = verdict.message.as_deref().unwrap_or_default();
        assert!(message.contains(message_part), "expected {message_part:?} in {message}");
    }
}

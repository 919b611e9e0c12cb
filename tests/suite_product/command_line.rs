//! Tests of case names, filters and exit codes.

use crate::common::{Run, entry, fixture, program};
use modelgate_harness::check::{Check, Status};
use modelgate_harness::measurement::Outcome;
use modelgate_protocol::FailureKind;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// The bundled models.
const TINY: [&str; 5] =
    ["tiny-llama", "tiny-llama@q8_0", "tiny-llama@q4_k", "tiny-mixtral", "tiny-qwen2.5-omni"];

#[test]
fn the_list_contains_every_case() {
    let ended = Run::bundled().arg("--list").run();
    assert_eq!(ended.code, Some(0));
    insta::assert_snapshot!("list", ended.stdout);
    assert!(ended.report.is_none(), "a listing writes no report");
}

#[test]
fn the_harness_links_no_gpu_library() {
    // a binary that is linked to libcuda does not start on a host without the driver, so even
    // --list would fail
    let output = Command::new("readelf")
        .arg("-d")
        .arg(env!("CARGO_BIN_EXE_modelgate"))
        .output()
        .expect("readelf");
    let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
    assert!(text.contains("needed"), "{text}");
    for library in ["cuda", "cublas", "curand", "nvidia", "nvrtc"] {
        assert!(!text.contains(library), "{text}");
    }
}

#[test]
fn a_closed_output_pipe_is_not_an_error() {
    let mut child = program()
        .arg("--list")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let output = child.wait_with_output().expect("the program ends");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn the_bundled_models_pass_without_arguments() {
    let ended = Run::bundled().run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    assert!(ended.stdout.contains("25 passed; 0 failed; 27 ignored"), "{}", ended.stdout);
    for id in TINY {
        ended.assert_passes(id);
    }
    let summary = ended.summary.expect("a summary");
    assert_eq!(summary.lines().next(), Some("5 of 5 models validated"));
}

#[test]
fn the_worker_is_found_in_the_target_folder() {
    let ended = Run::bundled().env_remove("MODELGATE_WORKER").arg("tiny-llama@q8_0::load").run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
}

#[test]
fn a_selected_case_runs_alone() {
    let ended = Run::bundled().arg("tiny-llama@q4_k::generation").run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    assert!(ended.stdout.contains("1 passed; 0 failed; 0 ignored"), "{}", ended.stdout);
    assert!(ended.stdout.contains("51 filtered out"), "{}", ended.stdout);
    let model = ended.model("tiny-llama@q4_k");
    assert_eq!(model.measurement.outcome, Outcome::Measured);
    for verdict in &model.checks {
        let expected = match verdict.check {
            Check::Generation => Status::Passed,
            _ => Status::NotSelected,
        };
        assert_eq!(verdict.status, expected);
    }
    let summary = ended.summary.as_deref().expect("a summary");
    assert!(summary.starts_with("INCOMPLETE: tiny-llama@q4_k"), "{summary}");
}

#[test]
fn a_complete_id_selects_the_model_without_its_variants() {
    let ended = Run::bundled().arg("TINY-llama").run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    assert!(ended.stdout.contains("5 passed"), "{}", ended.stdout);
    let ended = Run::bundled().arg("--list").arg("tiny-l").run();
    assert!(
        ended.stdout.contains("15 tests"),
        "a part of an id also selects variants: {}",
        ended.stdout
    );
}

#[test]
fn skipped_cases_do_not_run() {
    let ended = Run::bundled().args(&["tiny-llama", "--skip", "generation"]).run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    assert!(ended.stdout.contains("4 passed"), "{}", ended.stdout);
}

#[test]
fn a_repository_name_selects_its_model_in_upper_or_lower_case() {
    let ended = Run::bundled().arg("--list").arg("qwen/qwen2.5-omni-7b").run();
    assert!(ended.stdout.contains("5 tests"), "{}", ended.stdout);
    assert!(ended.stdout.contains("qwen2.5-omni-7b::load"), "{}", ended.stdout);
}

#[test]
fn a_filter_for_ignored_cases_only_fails_with_a_hint() {
    for filter in ["llama-3.1-70b-instruct", "Qwen/Qwen2.5-Omni-7B", "mixtral-8"] {
        let ended = Run::bundled().arg(filter).run();
        assert_eq!(ended.code, Some(101), "{}", ended.output());
        assert!(ended.stderr.contains("--include-ignored"), "{}", ended.stderr);
    }
}

#[test]
fn a_filter_that_matches_no_test_warns_locally_and_fails_in_ci() {
    let ended = Run::bundled().arg("llama-3.1-80b").run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    assert!(ended.stderr.contains("warning: no model or case matches"), "{}", ended.stderr);
    assert!(ended.stderr.contains("llama-3.1-70b-instruct"), "{}", ended.stderr);
    let ended = Run::bundled().env("CI", "true").arg("llama-3.1-80b").run();
    assert_eq!(ended.code, Some(101), "{}", ended.output());
}

#[test]
fn ids_equal_to_names_of_the_store_are_valid() {
    for id in ["measuring", "run", "report"] {
        let ended = Run::manifest(&entry(id, &fixture("tiny/llama"), "q8_0", "")).run();
        assert_eq!(ended.code, Some(0), "{}", ended.output());
        ended.assert_passes(id);
    }
}

#[test]
fn a_run_without_checks_does_not_pass_in_ci() {
    let ended = Run::bundled().args(&["tiny-llama", "--bench"]).run();
    assert!(ended.stdout.contains("5 passed"), "{}", ended.output());
    let ended = Run::bundled().args(&["tiny-llama", "--ignored"]).env("CI", "1").run();
    assert_eq!(ended.code, Some(101), "{}", ended.output());
}

#[test]
fn a_closed_output_pipe_does_not_change_a_verdict() {
    let run = Run::bundled().arg("tiny-llama@q8_0");
    let ended = run.in_shell("\"$0\" \"$@\" | head -1; exit ${PIPESTATUS[0]}").run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended.assert_passes("tiny-llama@q8_0");
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    assert_eq!(Run::bundled().arg("--no-such-flag").run().code, Some(2));
    let ended = Run::bundled().env("MODELGATE_DEVICE", "gpu").run();
    assert_eq!(ended.code, Some(2), "{}", ended.output());
    assert!(ended.stderr.contains("MODELGATE_DEVICE=gpu"), "{}", ended.stderr);
    let ended = Run::bundled().env("HF_ENDPOINT", "hub.example").run();
    assert_eq!(ended.code, Some(2), "{}", ended.output());
    assert!(ended.stderr.contains("HF_ENDPOINT"), "{}", ended.stderr);
    let ended = Run::bundled().args(&["--logfile", "/no/such/folder/log"]).run();
    assert_eq!(ended.code, Some(2), "{}", ended.output());
    assert!(ended.stderr.contains("/no/such/folder/log"), "{}", ended.stderr);
}

#[test]
fn a_malformed_token_does_not_fail_runs_without_the_hub() {
    let ended = Run::bundled().env("HF_TOKEN", "no token").arg("tiny-llama@q8_0").run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    ended.assert_passes("tiny-llama@q8_0");
}

#[test]
fn without_a_gpu_the_primary_models_fail_with_a_reason() {
    let ended = Run::bundled().arg("--include-ignored").run();
    assert_eq!(ended.code, Some(101), "{}", ended.output());
    let primary = ["llama-3.1-70b-instruct", "qwen2.5-omni-7b", "mixtral-8x22b-instruct-v0.1"];
    let variants = primary.map(|id| format!("{id}@synthetic"));
    for id in primary.into_iter().chain(variants.iter().map(String::as_str)) {
        let model = ended.model(id);
        let failure = model.measurement.failure.as_ref().expect("a failure");
        if ended.report.as_ref().is_some_and(|report| report.host.gpus.is_empty()) {
            assert_eq!(failure.kind, FailureKind::DeviceNotFound, "{failure}");
            assert!(failure.message.contains("no NVIDIA driver"), "{failure}");
        }
        let message = ended.assert_only_fails(id, Check::Load, Status::Blocked);
        assert!(message.contains(&failure.message), "{message}");
        assert!(model.measurement.memory.prediction.is_some(), "the prediction needs no download");
    }
    for id in TINY {
        ended.assert_passes(id);
    }
    let first = ended.summary.as_deref().and_then(|summary| summary.lines().next());
    assert!(first.is_some_and(|line| line.contains("5 of 11 models validated")), "{first:?}");
}

#[test]
fn a_repository_that_is_not_cached_is_reported_as_not_acquired() {
    let run = Run::manifest(
        "[[model]]\nid = \"small\"\nrepo = \"some-owner/Some-Model\"\nquantization = \"q8_0\"\n\
         device = \"cpu\"\n",
    );
    let ended = run.arg("--include-ignored").run();
    let message = ended.assert_only_fails("small", Check::Load, Status::Blocked);
    assert!(message.contains("some-owner/Some-Model"), "{message}");
    let model = ended.model("small");
    assert_eq!(model.measurement.outcome, Outcome::NotAcquired);
    let failure = model.measurement.failure.as_ref().expect("a failure");
    assert_eq!(failure.kind, FailureKind::Offline);
    assert!(failure.hint.contains("hf download some-owner/Some-Model"), "{failure:?}");

    let run = Run::manifest(
        "[[model]]\nid = \"omni\"\nrepo = \"Qwen/Qwen-2.5-Omni-7B\"\nquantization = \"q8_0\"\n\
         device = \"cpu\"\n",
    );
    let ended = run.arg("--include-ignored").run();
    let failure = ended.model("omni").measurement.failure.as_ref().expect("a failure");
    assert!(failure.hint.contains("use Qwen/Qwen2.5-Omni-7B if"), "{failure:?}");
}

#[test]
fn a_malformed_memory_limit_is_a_usage_error() {
    let ended = Run::bundled().env("MODELGATE_VRAM_LIMIT", "much").run();
    assert_eq!(ended.code, Some(2), "{}", ended.output());
    assert!(
        ended.stderr.contains("MODELGATE_VRAM_LIMIT: \"much\" is not a size"),
        "{}",
        ended.stderr
    );
}

#[test]
fn an_unknown_build_setting_is_a_usage_error() {
    let ended = Run::bundled().env("MODELGATE_BUILD", "off").run();
    assert_eq!(ended.code, Some(2), "{}", ended.output());
    assert!(ended.stderr.contains("MODELGATE_BUILD=off: unknown value"), "{}", ended.stderr);
    assert!(ended.stderr.contains("set it to never"), "{}", ended.stderr);
}

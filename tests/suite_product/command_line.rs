//! Tests of case names, filters and exit codes.

use crate::common::{Run, entry, fixture, program};
use modelgate_harness::check::{Check, Status};
use modelgate_harness::measurement::Outcome;
use modelgate_protocol::{Device, FailureKind};
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
fn a_filter_that_can_only_be_meant_for_models_fails_without_cases() {
    // the arguments, the exit code, a part of standard error
    let rows: [(&[&str], i32, &str); 10] = [
        (&["some_unit_test"], 0, "warning: no model or case matches \"some_unit_test\""),
        (&["tiny-lama"], 0, "the nearest ids are tiny-llama"),
        (&["some_unit_test", "--ignored"], 101, "error: no model or case matches"),
        (&["tiny-lama", "--include-ignored"], 101, "the nearest ids are tiny-llama"),
        (&["tiny-llama", "--exact"], 101, "for example tiny-llama::load"),
        (&["tiny-llama::loda"], 101, "use one of tiny-llama::load, tiny-llama::time_budget"),
        (&["Qwen/Qwen2.5-Omni-8B"], 101, "the nearest ids are qwen2.5-omni-7b"),
        (&["tiny-llama@q3_k"], 101, "the nearest ids are tiny-llama"),
        (&["tiny-llama", "--ignored"], 101, "error: all 5 cases that \"tiny-llama\" selects"),
        (&["tiny-llama@q8_0::load", "tiny-llama@q3_k"], 101, "matches \"tiny-llama@q3_k\""),
    ];
    for (arguments, code, expected) in rows {
        let ended = Run::bundled().args(arguments).run();
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.output());
        assert!(ended.stderr.contains(expected), "{arguments:?}: {}", ended.stderr);
        assert!(ended.report.is_none(), "{arguments:?}: a run without cases writes no report");
        let summary = "0 passed; 0 failed; 0 ignored; 0 measured; 52 filtered out";
        assert_eq!(ended.stdout.contains(summary), code == 0, "{}", ended.output());
    }
}

#[test]
fn several_filters_select_their_union() {
    let ended = Run::bundled()
        .args(&["tiny-llama@q8_0::load", "some_unit_test", "tiny-llama@q4_k::load"])
        .run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    assert!(ended.stdout.contains("2 passed; 0 failed; 0 ignored"), "{}", ended.stdout);
    assert!(ended.stderr.contains("warning: no model or case matches"), "{}", ended.stderr);
    let filter = ended.report.expect("a report").run.filter;
    let expected = "tiny-llama@q8_0::load some_unit_test tiny-llama@q4_k::load";
    assert_eq!(filter.as_deref(), Some(expected));
}

#[test]
fn the_flags_of_the_test_runner_of_rust_are_accepted() {
    let case = "tiny-llama@q8_0::load";
    let line = "test tiny-llama@q8_0::load ... ok\n";
    // the arguments, a part of standard output
    let rows: [(&[&str], &str); 9] = [
        (&[case, "--no-capture"], line),
        (&[case, "--nocapture", "--exact"], line),
        (&[case, "--test-threads=1", "--color=never"], line),
        (&["--test-threads", "8", case, "--format=pretty"], line),
        (&[case, "--color", "always"], "\u{1b}["),
        (&[case, "-q"], "\n.\n"),
        (&[case, "--quiet", "--format", "terse"], "\n.\n"),
        (&[case, "--format", "json", "-Z", "unstable-options"], "\"passed\": 1"),
        (&["tiny-llama@q8_0", "--skip", "ge", "--skip=quant"], "1 passed"),
    ];
    for (arguments, expected) in rows {
        let ended = Run::bundled().args(arguments).run();
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.output());
        assert!(ended.stdout.contains(expected), "{arguments:?}: {}", ended.stdout);
    }
}

#[test]
fn an_unknown_flag_is_an_error_with_the_nearest_flag() {
    for (flag, hint) in [
        ("--no-cap", "hint: use --no-capture, which is the nearest flag"),
        ("--include_ignored", "hint: use --include-ignored, which is the nearest flag"),
        ("-x", "hint: run with `--help` to list the flags"),
    ] {
        let ended = Run::bundled().arg(flag).run();
        assert_eq!(ended.code, Some(2), "{}", ended.output());
        let expected = format!("error: the flag \"{flag}\" is unknown\n{hint}\n");
        assert_eq!(ended.stderr, expected);
    }
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
fn without_a_gpu_the_report_has_the_reason_for_the_cpu() {
    // the empty list hides the GPUs of a host that has some
    let on_host_without_gpu =
        |run: Run| run.env_remove("MODELGATE_DEVICE").env("CUDA_VISIBLE_DEVICES", "");
    let models = entry("tiny", &fixture("tiny/llama"), "q8_0", "");
    let ended = on_host_without_gpu(Run::manifest(&models)).run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    let host = &ended.report.as_ref().expect("a report").host;
    let no_gpu = host.no_gpu_reason.as_deref().unwrap_or("CUDA_VISIBLE_DEVICES=\"\" shows 0");
    assert!(host.memory_bytes_per_s.is_some_and(|rate| rate > 0), "{host:?}");
    let measurement = &ended.model("tiny").measurement;
    assert_eq!(measurement.requested_devices, [Device::Cpu]);
    let reason = measurement.device_reason.as_deref().expect("a reason");
    assert!(reason.starts_with(no_gpu), "expected {no_gpu:?} in {reason}");
    assert!(reason.contains("the predicted rate on the CPU is"), "{reason}");
    // 2,490,368 weights of matrices in 8.5 bits, and 2,304 of norms in f32
    assert!(reason.contains("2.66 MB of weights for each token"), "{reason}");
    let summary = ended.summary.as_deref().expect("a summary");
    assert!(summary.contains(&format!("Device: cpu ({reason}).")), "{summary}");

    let models = "[[model]]\nid = \"large\"\nrepo = \"meta-llama/Llama-3.1-70B-Instruct\"\n\
                  quantization = \"q4_k\"\nexpect.vram = { max = \"60GB\" }\nsynthetic = true\n";
    let ended = on_host_without_gpu(Run::manifest(models)).arg("--include-ignored").run();
    for id in ["large", "large@synthetic"] {
        let measurement = &ended.model(id).measurement;
        let failure = measurement.failure.as_ref().expect("a failure");
        assert_eq!(failure.kind, FailureKind::DeviceNotFound, "{failure}");
        assert!(failure.message.contains("the manifest sets expect.vram"), "{failure}");
        assert!(failure.hint.contains("remove `expect.vram`"), "{failure:?}");
        assert_eq!(
            (&measurement.requested_devices[..], &measurement.device_reason),
            (&[][..], &None)
        );
        ended.assert_only_fails(id, Check::Load, Status::Blocked);
    }
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

//! Causes the faults that can occur before a model is loaded: in the hub, in files, in processes
//! and by limits. Each fault must fail the expected check with its failure kind and a hint. After
//! the fault is fixed, the next run must pass without manual cleanup. No output and no file may
//! contain the token of the hub.

#[path = "../common/mod.rs"]
mod common;

use common::fault::{FaultCase, Setup, files_below};
use common::hub::TOKEN;
use common::{FinishedRun, Script, faults, fixture, json_reports, worker_binary};
use libtest_mimic::{Arguments, Trial};
use modelgate_harness::check::Status;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

/// A worker that prints its environment to standard error, then runs the real worker.
const VERBOSE_WORKER: &str = "#!/bin/sh\nenv >&2\nexec \"$WORKER\"";

/// Patterns of values that differ between runs, and their replacements.
const VARYING: [(&str, &str); 11] = [
    (r"\[tmp\]/\.tmp\w+", "[tmp]"),
    (r"127\.0\.0\.1:\d+", "[hub]"),
    (r"\d+(\.\d+)? (s|ms)\b", "[time]"),
    // the files of a repository are downloaded concurrently, and the first failure is reported
    (r"\), [\w.-]+\.(json|safetensors|jinja): ", "), [file]: "),
    (r"\b0-\d+/\d{4,}", "0-[last]/[size]"),
    (r"\d+ of \d+ bytes", "[bytes]"),
    (r"\d+ bytes, expected \d+ as listed", "[bytes], expected [size] as listed"),
    (r"only \d+ bytes were received", "only [bytes] were received"),
    (r"\b[0-9a-f]{64}\b", "[sha256]"),
    (r"[\d.]+ [kMGT]?B (free|are free)\b", "[size] $1"),
    (r"(lookup address information): .*; tried", "$1: [reason]; tried"),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let mut trials = vec![trial("every_failure_kind_has_a_test", every_kind_has_a_test)];
    trials.extend(faults::cases().into_iter().map(|case| {
        let name = format!("{} is reported and can be fixed", case.name);
        Trial::test(name.replace([' ', '\''], "_"), move || {
            check_case(&case);
            Ok(())
        })
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Asserts that no file below `folder` contains the token.
fn assert_no_file_has_token(folder: &Path) {
    let files = files_below(folder);
    assert!(!files.is_empty(), "{}", folder.display());
    for path in files {
        // the target of a symlink may not exist
        let content = std::fs::read(&path).unwrap_or_default();
        let found = content.windows(TOKEN.len()).any(|bytes| bytes == TOKEN.as_bytes());
        assert!(!found, "{} contains the token", path.display());
    }
}

/// The cases whose message is complete, and in which nothing shows what caused the fault.
const WITHOUT_HINT: [&str; 2] = ["a missing tensor", "an unexpected tensor"];

/// Asserts that the fault is reported, and that the next run passes after the fix.
fn check_case(case: &FaultCase) {
    let setup = case.prepare();
    let ended = case.faulty_run(&setup).run();
    assert_fault_is_reported(case, &ended);
    assert_no_token(&ended);
    assert_eq!(json_reports(&ended.reports()).len(), 1, "one complete report is written");

    let verbose = Script::new(VERBOSE_WORKER);
    let run = case.fixed_run(&setup).env("WORKER", worker_binary());
    let ended = run.env("MODELGATE_WORKER", verbose.path()).run();
    assert_eq!(ended.code, Some(0), "after {}: {}", case.name, ended.output());
    ended.assert_passes("tiny");
    setup.assert_cache_matches_hub();
    let stderr = &ended.model("tiny").measurement.worker_stderr;
    assert!(stderr.contains("HF_HOME="), "the worker prints its environment: {stderr}");
    assert!(hub_received_token(&setup), "{}: the hub receives the token", case.name);
    assert_no_token(&ended);
    assert_no_file_has_token(setup.home.path());
}

fn hub_received_token(setup: &Setup) -> bool {
    let expected = format!("Bearer {TOKEN}");
    setup.hub.log().iter().any(|logged| logged.authorization.as_ref() == Some(&expected))
}

/// Asserts that neither the output nor the files of a run contain the token or the signature of a
/// URL.
fn assert_no_token(ended: &FinishedRun) {
    let output = ended.output();
    assert!(!output.contains(TOKEN) && !output.contains("not-to-be-shown"), "{output}");
    assert_no_file_has_token(ended.reports().parent().expect("the folder of the run"));
}

/// Asserts that the output, the summary and the report contain the expected failure.
fn assert_fault_is_reported(case: &FaultCase, ended: &FinishedRun) {
    let output = format!("{}: {}", case.name, ended.output());
    let model = ended.model("tiny");
    for verdict in &model.checks {
        let expected = if verdict.check == case.check { Status::Failed } else { Status::Blocked };
        // a check whose values were measured before the fault still has a verdict
        let is_expected = verdict.status == expected
            || (case.other_checks_pass
                && verdict.check != case.check
                && verdict.status == Status::Passed);
        assert!(is_expected, "{verdict:?} {output}");
    }
    assert_eq!(ended.code, Some(case.code), "{output}");
    let verdict = ended.verdict("tiny", case.check);
    let message = verdict.message.as_deref().unwrap_or_default();
    let hint = verdict.hint.as_deref().unwrap_or_default();
    if let Some(kind) = case.kind {
        let failure = model.measurement.failure.as_ref().expect("a failure");
        assert_eq!(failure.kind, kind, "{output}");
        assert!(message.contains(kind.name()), "{output}");
    }
    for (place, text, words) in
        [("message", message, &case.message_parts), ("hint", hint, &case.hint_parts)]
    {
        for word in words {
            assert!(text.contains(word), "expected {word:?} in the {place}: {output}");
        }
    }
    assert_eq!(hint.is_empty(), WITHOUT_HINT.contains(&case.name), "{output}");
    // the wrong answer of a damaged model depends on the processor
    if case.kind.is_some() {
        assert_reviewed(case, message, hint);
    }
    // the output and the summary contain the same failure
    assert!(ended.stdout.contains(hint), "{output}");
    let summary = ended.summary.as_deref().expect("a summary");
    let first = if case.code == 101 { "FAILED: tiny" } else { "INCOMPLETE: tiny" };
    assert!(summary.starts_with(first), "{summary}");
}

/// Asserts that the message and the hint are those of the snapshot of the case, in which paths, ports
/// and measured values are replaced. `INSTA_UPDATE=always` accepts a change.
fn assert_reviewed(case: &FaultCase, message: &str, hint: &str) {
    let temporary = std::env::temp_dir();
    let root = fixture("..").canonicalize().expect("the root of the repository");
    let hint = if hint.is_empty() { String::new() } else { format!("\nhint: {hint}") };
    let text = format!("{message}{hint}")
        .replace(&*root.to_string_lossy(), "[repository]")
        .replace(&*temporary.to_string_lossy(), "[tmp]");
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_path("snapshots");
    for (pattern, replacement) in VARYING {
        settings.add_filter(pattern, replacement);
    }
    let name = case.name.replace([' ', '\''], "_");
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Asserts that each failure kind of the report schema has a test, here or in the named file.
fn every_kind_has_a_test() {
    let schema = std::fs::read(fixture("../schemas/report.json")).expect("the report schema");
    let schema: serde_json::Value = serde_json::from_slice(&schema).expect("JSON");
    let kinds = schema["$defs"]["FailureKind"]["oneOf"].as_array().expect("failure kinds");
    let documented: BTreeSet<String> = kinds
        .iter()
        .map(|kind| kind["const"].as_str().expect("a documented kind").to_owned())
        .collect();
    let cases = faults::cases();
    assert!(cases.len() >= 30, "{} cases", cases.len());
    let kinds = cases.iter().filter_map(|case| case.kind);
    let in_other_files = faults::TESTED_IN_OTHER_FILES.iter().map(|(kind, _)| *kind);
    let tested = kinds.chain(in_other_files).chain(faults::UNTESTED);
    let tested: BTreeSet<String> = tested.map(|kind| kind.name().to_owned()).collect();
    assert_eq!(documented, tested);
    for (kind, place) in faults::TESTED_IN_OTHER_FILES {
        let text = std::fs::read_to_string(fixture("..").join(place)).expect("a test");
        let tests = if place.contains("/src/") {
            text.split_once("mod tests").expect("tests").1.to_owned()
        } else {
            text
        };
        assert!(tests.contains(&format!("FailureKind::{kind:?}")), "{place} tests {kind:?}");
    }
}

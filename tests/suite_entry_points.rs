//! Tests that `modelgate run` and the test target `models` behave the same: the same cases,
//! verdicts, reports and exit codes.
//!
//! Cargo does not give a test the path of the binary of another test target. So this test includes
//! the source of `models`, and starts itself as `models`.

#[path = "common/mod.rs"]
mod common;
mod models;

use common::{FinishedRun, Run};
use libtest_mimic::{Arguments, Trial};
use std::collections::BTreeSet;
use std::process::{Command, ExitCode};

/// The environment variable that makes this program run as the test target `models`.
const AS_MODELS: &str = "TEST_AS_MODELS";

fn main() -> ExitCode {
    if std::env::var_os(AS_MODELS).is_some() {
        return models::main();
    }
    let trial = |name, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("both_list_the_same_cases", both_list_the_same_cases),
        trial("both_report_the_same_results", both_report_the_same_results),
        trial(
            "both_answer_a_command_line_without_cases_in_the_same_way",
            both_answer_a_command_line_without_cases_in_the_same_way,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Starts the same run with the test target and with the command, and returns both results in
/// this order.
fn run_both(change: impl Fn(Run) -> Run) -> [FinishedRun; 2] {
    let mut models = Command::new(std::env::current_exe().expect("a program"));
    models.env(AS_MODELS, "1");
    [change(Run::of_program(models)).run(), change(Run::bundled()).run()]
}

fn both_list_the_same_cases() {
    for arguments in [&["--list"][..], &["--list", "--ignored"], &["--list", "llama", "--exact"]] {
        let [target, command] = run_both(|run| run.args(arguments));
        assert_eq!(target.code, Some(0), "{}", target.output());
        assert_eq!((target.code, target.stdout), (command.code, command.stdout));
    }
}

fn both_report_the_same_results() {
    let [target, command] = run_both(|run| run.arg("tiny-llama@q8_0"));
    assert_eq!(target.code, Some(0), "{}", target.output());
    let verdicts = |ended: &FinishedRun| {
        let lines = ended.stdout.lines().filter(|line| line.starts_with("test tiny-"));
        // the order depends on the threads of the runner
        lines.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    assert_eq!(verdicts(&target).len(), 5, "{}", target.output());
    assert_eq!(verdicts(&target), verdicts(&command));
    assert_eq!(stable_report(&target), stable_report(&command));
}

/// Returns the report without the values that differ from run to run, for example times.
fn stable_report(ended: &FinishedRun) -> serde_json::Value {
    let mut report = serde_json::to_value(ended.report.as_ref()).expect("a report is JSON");
    for key in ["id", "started_at", "finished_at"] {
        report["run"][key].take();
    }
    let models = report["models"].as_array_mut().expect("models");
    let measured = models.iter_mut().find(|model| model["id"] == "tiny-llama@q8_0");
    let model = measured.expect("a measured model");
    let varying = ["phases", "activities", "ceilings", "load_s", "acquire_s", "memory", "files"];
    for key in varying {
        model[key].take();
    }
    // the order depends on the threads that load the tensors
    let tensors = model["tensors"]["list"].as_array_mut().expect("tensors");
    tensors.sort_by_key(|tensor| tensor["name"].to_string());
    for generation in model["generations"].as_array_mut().expect("generations") {
        generation["time_to_first_token_s"].take();
        generation["decode_tokens_per_s"].take();
    }
    for verdict in model["checks"].as_array_mut().expect("checks") {
        verdict["observed"].take();
    }
    report["ceilings"].take();
    report
}

fn both_answer_a_command_line_without_cases_in_the_same_way() {
    for (arguments, code) in [
        (&["--no-cap"][..], 2),
        (&["--test-threads=0"], 2),
        (&["llama-3.1-70b-instruct"], 101),
        (&["tiny-lama::load"], 101),
        (&["tiny-lama", "--exact"], 101),
        (&["tiny-lama", "no-such"], 0),
        (&["--help"], 0),
    ] {
        let [target, command] = run_both(|run| run.args(arguments));
        assert_eq!((target.code, command.code), (Some(code), Some(code)), "{}", target.output());
        assert_eq!(target.stderr, command.stderr, "{arguments:?}");
        assert_eq!(target.stdout.is_empty(), command.stdout.is_empty(), "{arguments:?}");
    }
    let [target, command] = run_both(|run| run.env("MODELGATE_DEVICE", "gpu"));
    assert_eq!((target.code, target.stderr), (command.code, command.stderr));
}

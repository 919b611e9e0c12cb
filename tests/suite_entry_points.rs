//! `modelgate run` and the test target `models` are one program under two names: the same cases, the
//! same verdicts, the same report, the same exit codes.
//!
//! Cargo tells no test where the binary of another test target is. So this one contains the source of
//! `models`, and starts itself to be that.

#[path = "common/mod.rs"]
mod common;
mod models;

use common::{Ended, Run};
use libtest_mimic::{Arguments, Trial};
use std::collections::BTreeSet;
use std::process::{Command, ExitCode};

/// Set: this process is the test target `models`.
const AS_MODELS: &str = "TEST_AS_MODELS";

fn main() -> ExitCode {
    if std::env::var_os(AS_MODELS).is_some() {
        return models::main();
    }
    let trial = |name, holds: fn()| {
        Trial::test(name, move || {
            holds();
            Ok(())
        })
    };
    let trials = vec![
        trial("the_cases_are_the_same", the_cases_are_the_same),
        trial("a_run_is_the_same", a_run_is_the_same),
        trial("a_wrong_command_line_is_the_same", a_wrong_command_line_is_the_same),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The same run by both: first by the test target, then by the command.
fn both(change: impl Fn(Run) -> Run) -> [Ended; 2] {
    let mut itself = Command::new(std::env::current_exe().expect("a program"));
    itself.env(AS_MODELS, "1");
    [change(Run::by(itself)).run(), change(Run::bundled()).run()]
}

fn the_cases_are_the_same() {
    for arguments in [&["--list"][..], &["--list", "--ignored"], &["--list", "llama", "--exact"]] {
        let [target, command] = both(|run| run.args(arguments));
        assert_eq!(target.code, Some(0), "{}", target.all());
        assert_eq!((target.code, target.stdout), (command.code, command.stdout));
    }
}

fn a_run_is_the_same() {
    let [target, command] = both(|run| run.arg("tiny-llama@q8_0"));
    assert_eq!(target.code, Some(0), "{}", target.all());
    let verdicts = |ended: &Ended| {
        let lines = ended.stdout.lines().filter(|line| line.starts_with("test tiny-"));
        // the order is that of the runner's threads
        lines.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    assert_eq!(verdicts(&target).len(), 5, "{}", target.all());
    assert_eq!(verdicts(&target), verdicts(&command));
    assert_eq!(facts(&target), facts(&command));
}

/// The report without what differs from run to run: times, and what the host was doing.
fn facts(ended: &Ended) -> serde_json::Value {
    let mut report = serde_json::to_value(ended.report.as_ref()).expect("a report is JSON");
    for key in ["id", "started_at", "finished_at"] {
        report["run"][key].take();
    }
    let models = report["models"].as_array_mut().expect("models");
    let measured = models.iter_mut().find(|model| model["id"] == "tiny-llama@q8_0");
    let model = measured.expect("it was measured");
    let varying = ["phases", "activities", "ceilings", "load_s", "acquire_s", "memory", "files"];
    for key in varying {
        model[key].take();
    }
    // they are resident in the order in which threads have loaded them
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

fn a_wrong_command_line_is_the_same() {
    for (arguments, code) in [(&["--no-such-flag"][..], 2), (&["llama-3.1-70b-instruct"], 101)] {
        let [target, command] = both(|run| run.args(arguments));
        assert_eq!((target.code, command.code), (Some(code), Some(code)), "{}", target.all());
    }
    let [target, command] = both(|run| run.env("MODELGATE_DEVICE", "gpu"));
    assert_eq!((target.code, target.stderr), (command.code, command.stderr));
}

//! Every fault that a user may meet on the way to a loaded model, injected for real: at the hub, in
//! a file, in the process, in a limit. Each fails the check that it should, with its kind and its
//! remedy; leaves nothing that a later run would trust; and a run after it is fixed passes, with
//! nothing cleaned by hand. None of
//! what any run leaves or prints has the token of the hub in it.

#[path = "../common/mod.rs"]
mod common;

use common::fault::{Row, World, files_below};
use common::hub::TOKEN;
use common::{Ended, Script, faults, fixture, json_reports, worker_binary};
use libtest_mimic::{Arguments, Trial};
use modelgate_harness::check::Status;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

/// A worker that tells all that it was given.
const TALKATIVE: &str = "#!/bin/sh\nenv >&2\nexec \"$WORKER\"";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trial = |name: &str, holds: fn()| {
        Trial::test(name, move || {
            holds();
            Ok(())
        })
    };
    let mut trials = vec![trial("readme_has_all_kinds_and_no_other", readme_has_all_kinds)];
    trials.extend(faults::rows().into_iter().map(|row| {
        Trial::test(row.name.replace([' ', '\''], "_"), move || {
            holds(&row);
            Ok(())
        })
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// No file below `folder` has the token in it.
fn search(folder: &Path) {
    let files = files_below(folder);
    assert!(!files.is_empty(), "{}", folder.display());
    for path in files {
        // a link leads to another file, or nowhere
        let content = std::fs::read(&path).unwrap_or_default();
        let found = content.windows(TOKEN.len()).any(|bytes| bytes == TOKEN.as_bytes());
        assert!(!found, "{} has the token", path.display());
    }
}

/// The fault is named with its remedy; a run after it is fixed passes, with nothing cleaned by hand.
fn holds(row: &Row) {
    let world = row.world();
    let ended = row.faulted(&world).run();
    is_named(row, &ended);
    has_no_token(&ended);
    assert_eq!(json_reports(&ended.reports()).len(), 1, "no report is written twice or half");

    let talkative = Script::new(TALKATIVE);
    let run = row.fixed(&world).env("WORKER", worker_binary());
    let ended = run.env("MODELGATE_WORKER", talkative.path()).run();
    assert_eq!(ended.code, Some(0), "after {}: {}", row.name, ended.all());
    ended.passes("tiny");
    world.holds_what_the_hub_has();
    let told = &ended.model("tiny").measurement.worker_stderr;
    assert!(told.contains("HF_HOME="), "the worker tells: {told}");
    assert!(is_asked_with_token(&world), "{}: the hub is asked with the token", row.name);
    has_no_token(&ended);
    search(world.home.path());
}

fn is_asked_with_token(world: &World) -> bool {
    let expected = format!("Bearer {TOKEN}");
    world.hub.log().iter().any(|logged| logged.authorization.as_ref() == Some(&expected))
}

fn has_no_token(ended: &Ended) {
    let said = ended.all();
    assert!(!said.contains(TOKEN) && !said.contains("not-to-be-shown"), "{said}");
    search(ended.reports().parent().expect("the run's folder"));
}

fn is_named(row: &Row, ended: &Ended) {
    let said = format!("{}: {}", row.name, ended.all());
    let model = ended.model("tiny");
    for verdict in &model.checks {
        let expected = if verdict.check == row.check { Status::Failed } else { Status::Blocked };
        // a check of what was measured before the fault still has its verdict
        let is_fine = verdict.status == expected
            || (row.keeps_others && verdict.check != row.check && verdict.status == Status::Passed);
        assert!(is_fine, "{verdict:?} {said}");
    }
    assert_eq!(ended.code, Some(row.code), "{said}");
    let verdict = ended.verdict("tiny", row.check);
    let message = verdict.message.as_deref().unwrap_or_default();
    let hint = verdict.hint.as_deref().unwrap_or_default();
    if let Some(kind) = row.kind {
        let failure = model.measurement.failure.as_ref().expect("a failure");
        assert_eq!(failure.kind, kind, "{said}");
        assert!(message.contains(kind.name()), "{said}");
    }
    for (place, text, words) in [("message", message, &row.says), ("hint", hint, &row.hints)] {
        for word in words {
            assert!(text.contains(word), "the {place} has {word:?}: {said}");
        }
    }
    assert!(!hint.is_empty(), "{said}");
    // and what the user sees is the same
    assert!(ended.stdout.contains(hint), "{said}");
    let summary = ended.summary.as_deref().expect("a summary");
    let first = if row.code == 101 { "FAILED: tiny" } else { "INCOMPLETE: tiny" };
    assert!(summary.starts_with(first), "{summary}");
}

/// The README's table of symptoms: each row begins with kinds of failures, and each of the kinds is
/// one of this table, or of the checks that need a GPU.
fn readme_has_all_kinds() {
    let readme = std::fs::read_to_string(fixture("..").join("README.md")).expect("the README");
    let lines = readme.lines().filter_map(|line| line.strip_prefix("| `"));
    let in_readme: BTreeSet<String> = lines
        .filter_map(|line| line.split_once('|'))
        .filter(|(_, rest)| rest.matches('|').count() == 3)
        .flat_map(|(first, _)| {
            let kinds = first.split('`').filter(|part| !part.trim_matches([' ', ',']).is_empty());
            kinds.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let rows = faults::rows();
    assert!(rows.len() >= 30, "{} rows", rows.len());
    let kinds = rows.iter().filter_map(|row| row.kind).map(|kind| kind.name().to_owned());
    let elsewhere = faults::ELSEWHERE.iter().map(|(kind, _)| kind.name().to_owned());
    let tested: BTreeSet<String> = kinds.chain(elsewhere).collect();
    assert_eq!(in_readme, tested);
    for (kind, place) in faults::ELSEWHERE {
        let text = std::fs::read_to_string(fixture("..").join(place)).expect("a test");
        let tests = if place.contains("/src/") {
            text.split_once("mod tests").expect("tests").1.to_owned()
        } else {
            text
        };
        assert!(tests.contains(&format!("FailureKind::{kind:?}")), "{place} tests {kind:?}");
    }
}

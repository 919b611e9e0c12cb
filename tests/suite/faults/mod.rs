//! Every fault that a user may meet on the way to a loaded model, injected for real: at the hub, in
//! a file, in the process, in a limit. Each fails the check that it should, with its kind and its
//! remedy; leaves nothing that a later run would trust; and a run after it is mended passes, with
//! nothing cleaned by hand.

mod row;
pub(crate) mod table;

pub(crate) use row::files_below;

use crate::hub::TOKEN;
use crate::support::{Run, fixture, json_reports, script, worker_binary};
use modelgate::check::Status;
use row::Row;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;

/// Rows that are tried at the same time.
const AT_ONCE: usize = 3;

#[test]
fn each_is_named_with_its_remedy_and_leaves_nothing_behind() {
    assert!(table::rows().len() >= 30, "{} rows", table::rows().len());
    all_rows(holds);
}

/// Tries all rows, several at once.
fn all_rows(hold: fn(&Row)) {
    let rows = table::rows();
    let (waiting, wrong) = (Mutex::new(rows.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(row) = { waiting.lock().expect("rows").next() } {
                    if catch_unwind(AssertUnwindSafe(|| hold(row))).is_err() {
                        wrong.lock().expect("names").push(row.name);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("names");
    assert!(wrong.is_empty(), "rows that do not hold: {wrong:#?}");
}

#[test]
fn nothing_that_any_run_leaves_or_prints_has_the_token() {
    // a worker that tells all that it was given
    const TELLS: &str = "#!/bin/sh\nenv >&2\nexec \"$WORKER\"";
    all_rows(|row| {
        let world = row.world();
        let talkative = script(TELLS);
        let run = |run: Run| {
            run.env("HF_TOKEN", TOKEN)
                .env("HUGGING_FACE_HUB_TOKEN", TOKEN)
                .env("ANOTHER_NAME", format!("https://me:{TOKEN}@hub"))
                .env("RUST_LOG", "trace")
                .env("RUST_BACKTRACE", "1")
        };
        let tells =
            |run: Run| run.env("MODELGATE_WORKER", talkative.path()).env("WORKER", worker_binary());
        let faulted = run(row.faulted(&world)).run();
        let mended = tells(run(row.mended(&world))).run();
        assert_eq!(mended.code, Some(0), "after {}: {}", row.name, mended.all());
        let told = &mended.model("tiny").measurement.worker_stderr;
        assert!(told.contains("HF_HOME="), "the worker tells: {told}");
        let sent = world
            .hub
            .log()
            .iter()
            .any(|logged| logged.authorization.as_deref() == Some(&format!("Bearer {TOKEN}")));
        assert!(sent, "{}: the hub is asked with the token", row.name);
        for ended in [&faulted, &mended] {
            assert!(!ended.all().contains(TOKEN), "{}: {}", row.name, ended.all());
            search(ended.reports().parent().expect("the run's folder"));
        }
        search(world.home.path());
    });
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

fn holds(row: &Row) {
    let world = row.world();
    let ended = row.faulted(&world).run();
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
    assert!(!said.contains(TOKEN) && !said.contains("not-to-be-shown"), "{said}");

    let ended = row.mended(&world).run();
    assert_eq!(ended.code, Some(0), "after {}: {}", row.name, ended.all());
    ended.passes("tiny");
    world.holds_what_the_hub_has();
}

/// The README's table of symptoms: each row begins with kinds of failures, and each of the kinds is
/// one of this table, or of the checks that need a GPU.
#[test]
fn the_readme_has_them_all_and_nothing_else() {
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
    let rows = table::rows();
    let kinds = rows.iter().filter_map(|row| row.kind).map(|kind| kind.name().to_owned());
    let elsewhere = table::ELSEWHERE.iter().map(|(kind, _)| kind.name().to_owned());
    let tested: BTreeSet<String> = kinds.chain(elsewhere).collect();
    assert_eq!(in_readme, tested);
    for (kind, place) in table::ELSEWHERE {
        let text = std::fs::read_to_string(fixture("..").join(place)).expect("a test");
        let tests = if place.starts_with("src") {
            text.split_once("mod tests").expect("tests").1.to_owned()
        } else {
            text
        };
        assert!(tests.contains(&format!("FailureKind::{kind:?}")), "{place} tests {kind:?}");
    }
}

/// No report is written twice or half.
#[test]
fn a_fault_leaves_one_whole_report() {
    let rows = table::rows();
    let row = rows.iter().find(|row| row.name == "the connection is cut").expect("a row");
    let world = row.world();
    let ended = row.faulted(&world).run();
    assert_eq!(json_reports(&ended.reports()).len(), 1);
}

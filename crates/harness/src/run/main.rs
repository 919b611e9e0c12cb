//! The entry point of the product: from arguments and environment to plan, run, report and exit
//! code. Both the test target `models` and the command `modelgate run` call it.

use super::closed_output;
use super::exit::{self, FAILED, PASSED, USAGE};
use super::idle;
use super::session::Session;
use crate::manifest::Manifest;
use crate::plan::{Case, Plan, Selection};
use crate::settings::variables::REPORT_DIR;
use crate::settings::{CommandLine, Environment, Invocation, Settings};
use libtest_mimic::{Arguments, ColorSetting, Trial};
use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the command line of this process, as a test runner.
pub fn main() -> ExitCode {
    run(std::env::args_os().skip(1), &Environment::from_process())
}

/// Runs the cases that `arguments` select from the manifest of `environment`.
///
/// Exit codes: 0 all selected cases passed; 101 at least one failed, an explicit filter selected
/// nothing, or the report could not be written; 2 the command line, the environment or the manifest
/// is invalid; 128 + n signal n ended the run.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: &Environment) -> ExitCode {
    let command_line = match CommandLine::parse(arguments) {
        Ok(Invocation::Run(command_line)) => command_line,
        Ok(Invocation::Help(text)) => return print(&text),
        Err(error) => {
            eprintln!("error: {error}\nhint: {}", error.hint());
            return ExitCode::from(USAGE);
        }
    };
    let (settings, manifest) = match exit::resolve(environment) {
        Ok(resolved) => resolved,
        Err(code) => return code,
    };
    let plan = Plan::of(&manifest);
    let selection = Selection::of(&plan, &manifest, &command_line);
    if command_line.runner.list {
        return list(&command_line.runner, &selection);
    }
    if let Err(error) = create_log_file(&command_line.runner) {
        eprintln!("error: {error}\nhint: set --logfile to the path of a writable file");
        return ExitCode::from(USAGE);
    }
    if idle::report(&selection.idle, &command_line, settings.ci, &plan, &manifest) {
        return ExitCode::from(FAILED);
    }
    if selection.to_run.is_empty() {
        return run_nothing(&command_line.runner, &plan, &selection);
    }
    run_selected(&command_line, settings, manifest, plan, &selection)
}

/// Creates the log file, because the test runner panics if it cannot create it.
fn create_log_file(arguments: &Arguments) -> io::Result<()> {
    let Some(path) = &arguments.logfile else {
        return Ok(());
    };
    std::fs::File::create(path)
        .map(drop)
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

/// Prints the plan in the format of the test runner.
fn list(arguments: &Arguments, selection: &Selection) -> ExitCode {
    let is_terse = matches!(arguments.format, Some(libtest_mimic::FormatSetting::Terse));
    let is_listed = |case: &&Case| !arguments.ignored || case.ignored;
    let lines: Vec<String> = selection
        .matched
        .iter()
        .filter(is_listed)
        .map(|case| format!("{}: test\n", case.name))
        .collect();
    let mut text = lines.concat();
    if !is_terse {
        text.push_str(&format!("\n{} tests, 0 benchmarks\n", lines.len()));
    }
    print(&text)
}

/// Prints a text. A closed pipe, as with `| head`, is a success.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(FAILED),
        _ => ExitCode::from(PASSED),
    }
}

/// Prints the result of a run without cases, in the form of the test runner. It writes no report,
/// because the report would replace that of the last run.
fn run_nothing(arguments: &Arguments, plan: &Plan, selection: &Selection) -> ExitCode {
    let arguments = exact_arguments(arguments, plan, selection);
    let excluded =
        |case: &Case| Trial::test(case.name.clone(), || Err("the case is not selected".into()));
    let trials = plan.cases.iter().map(excluded).collect();
    // the runner panics if its output is closed
    match catch_unwind(AssertUnwindSafe(|| libtest_mimic::run(&arguments, trials))) {
        Ok(conclusion) if conclusion.has_failed() => ExitCode::from(FAILED),
        _ => ExitCode::from(PASSED),
    }
}

/// Runs the selected cases, writes the report, and returns the exit code.
fn run_selected(
    command_line: &CommandLine,
    settings: Settings,
    manifest: Manifest,
    plan: Plan,
    selection: &Selection,
) -> ExitCode {
    let no_color = settings.no_color;
    let filters = &command_line.filters;
    let filter = (!filters.is_empty()).then(|| filters.join(" "));
    let session = match Session::open(filter, settings, manifest, plan, selection) {
        Ok(session) => Arc::new(session),
        Err(error) => {
            eprintln!(
                "error: the folder of the run cannot be created: {error}\nhint: set TMPDIR to a \
                 writable folder"
            );
            return ExitCode::from(FAILED);
        }
    };
    session.write_report();
    session.prepare_workers(selection);
    let trials = session.plan().cases.iter().map(|case| trial(&session, case)).collect();
    let mut arguments = exact_arguments(&command_line.runner, session.plan(), selection);
    if no_color && arguments.color.is_none() {
        arguments.color = Some(ColorSetting::Never);
    }
    closed_output::suppress_panic_texts();
    // the runner panics if its output is closed; verdicts and report do not depend on the output
    let result = catch_unwind(AssertUnwindSafe(|| libtest_mimic::run(&arguments, trials)));
    // the count of this process decides: a runner that ran fewer cases than selected must not pass
    let (passed, runner_passed) = match result {
        Ok(conclusion) => (session.passed(), !conclusion.has_failed()),
        Err(_) => {
            (selection.to_run.iter().filter(|case| session.judge(case).is_ok()).count(), true)
        }
    };
    session.write_report();
    let error = session.write_error();
    if let Some(error) = &error {
        eprintln!(
            "error: the report could not be written: {error}\nhint: set {REPORT_DIR} (the folder \
             for reports) and TMPDIR (the folder for measurements) to writable folders with free \
             disk space"
        );
    }
    session.close();
    if let Some(signal) = session.signal() {
        return exit::of_signal(signal);
    }
    let success = passed == selection.to_run.len() && runner_passed && error.is_none();
    ExitCode::from(if success { PASSED } else { FAILED })
}

/// Returns the arguments with which the runner selects the same cases: every other case is skipped
/// by its exact name. Two threads, so that it prints only complete lines; the store lets only one
/// thread measure.
fn exact_arguments(arguments: &Arguments, plan: &Plan, selection: &Selection) -> Arguments {
    let skip = plan
        .cases
        .iter()
        .filter(|case| !selection.matched.contains(case))
        .map(|case| case.name.clone())
        .collect();
    Arguments { exact: true, skip, test_threads: Some(2), bench: false, ..arguments.clone() }
}

/// Returns the test of `case` in the form of the test runner.
fn trial(session: &Arc<Session>, case: &Case) -> Trial {
    let session = Arc::clone(session);
    let (ignored, kind) = (case.ignored, case.kind);
    let case = case.clone();
    let trial = Trial::test(case.name.clone(), move || session.judge(&case));
    trial.with_ignored_flag(ignored).with_kind(kind)
}

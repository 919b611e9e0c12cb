//! The product's entry: arguments and environment to plan, run, report and exit code.

use crate::check::{Status, Verdict};
use crate::env::{self, Environment};
use crate::host::Host;
use crate::manifest::{Manifest, ManifestError};
use crate::measure::{Surroundings, measure};
use crate::plan::{Case, Plan};
use crate::report;
use crate::select::{Selection, nearest_ids};
use crate::signal::{self, Interrupt};
use crate::store::{RunRecord, Store};
use crate::{bundled, hash};
use libtest_mimic::{Arguments, Failed, Trial};
use modelgate_protocol::Measurement;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Every selected case passed.
const PASSED: u8 = 0;
/// At least one failed.
const FAILED: u8 = 101;
/// The command line, the environment or the manifest is wrong.
const USAGE: u8 = 2;

/// The JSON report's folder where the environment names none.
const REPORTS: &str = "reports";
/// Its subfolder for runs of bundled models alone.
const BUNDLED_REPORTS: &str = "bundled";

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let environment = Environment::from_process();
    let manifest = match manifest(&environment) {
        Ok(manifest) => manifest,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let plan = Plan::of(&manifest);
    let selection = Selection::of(&plan, &manifest, &arguments);
    if arguments.list {
        return list(&arguments, &selection);
    }
    if let Err(error) = writable_log(&arguments) {
        eprintln!("error: {error}\nhint: --logfile takes the path of a file that can be written");
        return ExitCode::from(USAGE);
    }
    if let Some(code) = nothing_to_run(&arguments, &environment, &manifest, &selection) {
        return ExitCode::from(code);
    }
    run(&arguments, environment, manifest, plan, &selection)
}

fn manifest(environment: &Environment) -> Result<Manifest, ManifestError> {
    match &environment.manifest {
        Some(path) => Manifest::open(path),
        None => Manifest::parse(bundled::MANIFEST, bundled::MANIFEST_NAME, None),
    }
}

/// The runner would panic on a log file that it cannot make.
fn writable_log(arguments: &Arguments) -> io::Result<()> {
    let Some(path) = &arguments.logfile else {
        return Ok(());
    };
    std::fs::File::create(path)
        .map(drop)
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

/// Prints the plan as the test runner does. A closed pipe, as of `| head`, is success.
fn list(arguments: &Arguments, selection: &Selection) -> ExitCode {
    let terse = matches!(arguments.format, Some(libtest_mimic::FormatSetting::Terse));
    let chosen = |case: &&Case| !arguments.ignored || case.ignored;
    let mut text = String::new();
    for case in selection.matched.iter().filter(chosen) {
        text.push_str(&format!("{}: test\n", case.name));
    }
    if !terse {
        let count = selection.matched.iter().filter(chosen).count();
        text.push_str(&format!("\n{count} tests, 0 benchmarks\n"));
    }
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(FAILED),
        _ => ExitCode::from(PASSED),
    }
}

/// The exit code of a run that would run nothing, with a word on why.
fn nothing_to_run(
    arguments: &Arguments,
    environment: &Environment,
    manifest: &Manifest,
    selection: &Selection,
) -> Option<u8> {
    if selection.only_ignored() {
        eprintln!(
            "error: all {} selected cases are ignored by default, because they need a GPU or a \
             hub repository, so nothing would be checked\nhint: add `-- --include-ignored` to run \
             them",
            selection.matched.len()
        );
        return Some(FAILED);
    }
    if !selection.matched.is_empty() {
        return None;
    }
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let near = nearest_ids(filter, manifest);
    let hint = if near.is_empty() {
        "`-- --list` shows every case".to_owned()
    } else {
        format!("the nearest ids are {}", near.join(", "))
    };
    let level = if environment.ci { "error" } else { "warning" };
    eprintln!("{level}: no model or case matches \"{filter}\"\nhint: {hint}");
    environment.ci.then_some(FAILED)
}

/// All that the trials of a run share.
struct Session {
    environment: Environment,
    manifest: Manifest,
    plan: Plan,
    store: Store,
    fresh: RunRecord,
    report_dir: PathBuf,
    scratch: PathBuf,
    interrupt: Interrupt,
    host: OnceLock<Host>,
    report_error: OnceLock<String>,
    /// Held while a case is judged: a second thread that polled the store's lock would print its
    /// line out of order.
    turn: Mutex<()>,
}

fn run(
    arguments: &Arguments,
    environment: Environment,
    manifest: Manifest,
    plan: Plan,
    selection: &Selection,
) -> ExitCode {
    let session = match Session::open(arguments, environment, manifest, plan, selection) {
        Ok(session) => Arc::new(session),
        Err(error) => {
            eprintln!(
                "error: the run's folder cannot be made: {error}\nhint: TMPDIR names a \
                       writable folder"
            );
            return ExitCode::from(FAILED);
        }
    };
    session.write_report();
    let trials = session.plan.cases.iter().map(|case| trial(&session, case)).collect();
    let conclusion = libtest_mimic::run(&exact(arguments, &session.plan, selection), trials);
    session.write_report();
    if let Some(signal) = session.interrupt.signal() {
        return ExitCode::from(u8::try_from(signal::exit_code(signal)).unwrap_or(FAILED));
    }
    let unwritten = session.store.write_error();
    match session.report_error.get().or(unwritten.as_ref()) {
        Some(error) => {
            eprintln!(
                "error: the report could not be written: {error}\nhint: {} names the reports' \
                 folder and TMPDIR that of a run's measurements; both need room and permission",
                env::REPORT_DIR
            );
            ExitCode::from(FAILED)
        }
        None => conclusion.exit_code(),
    }
}

/// The arguments by which the runner selects just what we did: every other case is skipped by its
/// exact name. Two threads, so that it prints a line when it is whole; the store lets only one
/// measure.
fn exact(arguments: &Arguments, plan: &Plan, selection: &Selection) -> Arguments {
    let skip = plan
        .cases
        .iter()
        .filter(|case| !selection.matched.contains(case))
        .map(|case| case.name.clone())
        .collect();
    Arguments { filter: None, exact: true, skip, test_threads: Some(2), ..arguments.clone() }
}

fn trial(session: &Arc<Session>, case: &Case) -> Trial {
    let session = Arc::clone(session);
    let ignored = case.ignored;
    let case = case.clone();
    Trial::test(case.name.clone(), move || session.judge(&case)).with_ignored_flag(ignored)
}

impl Session {
    fn open(
        arguments: &Arguments,
        environment: Environment,
        manifest: Manifest,
        plan: Plan,
        selection: &Selection,
    ) -> io::Result<Session> {
        let started_at = jiff::Timestamp::now();
        let id = match &environment.nextest_run_id {
            Some(id) => format!("nextest-{}", hash::sha256_hex(id.as_bytes())),
            None => format!("{}-{}", started_at.strftime("%Y%m%dT%H%M%S%6f"), std::process::id()),
        };
        let scratch = scratch();
        let store = Store::open(&scratch, &id)?;
        for case in &selection.to_run {
            store.select(&case.name)?;
        }
        let report_dir = report_dir(&environment, &manifest, selection);
        Ok(Session {
            interrupt: Interrupt::install()?,
            fresh: RunRecord {
                id,
                started_at,
                report_name: None,
                filter: arguments.filter.clone(),
            },
            environment,
            manifest,
            plan,
            store,
            report_dir,
            scratch,
            host: OnceLock::new(),
            report_error: OnceLock::new(),
            turn: Mutex::new(()),
        })
    }

    fn host(&self) -> &Host {
        self.host.get_or_init(Host::inspect)
    }

    /// Measures the case's model, unless that was done, and says what its check says.
    fn judge(&self, case: &Case) -> Result<(), Failed> {
        let model = &self.manifest.models[case.model];
        if self.interrupt.signal().is_some() {
            return Err("interrupted before it was run".into());
        }
        let surroundings = Surroundings {
            manifest: &self.manifest,
            environment: &self.environment,
            host: self.host(),
            scratch: &self.scratch,
            interrupt: &self.interrupt,
        };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let measured_before = self.store.measurement(&model.id).is_some();
        let measurement = self
            .store
            .measure(&model.id, self.environment.attempt, &self.interrupt, || {
                measure(model, &surroundings)
            })
            .map_err(|error| Failed::from(format!("the run's folder: {error}")))?;
        if !measured_before {
            self.write_report();
        }
        self.verdict(case, &measurement)
    }

    fn verdict(&self, case: &Case, measurement: &Measurement) -> Result<(), Failed> {
        let model = &self.manifest.models[case.model];
        let verdict = report::verdict(case.check, measurement, model, &self.manifest);
        match verdict.status {
            Status::Passed => Ok(()),
            _ => Err(message(&verdict).into()),
        }
    }

    /// Writes the report as the run's folder stands. What goes wrong is kept for the end: the
    /// verdicts matter more.
    fn write_report(&self) {
        let result = self.store.exclusively(|| {
            if self.interrupt.signal().is_some() {
                self.store.set_interrupted()?;
            }
            let folder = &self.report_dir;
            let record = self.store.with_run(
                || self.fresh.clone(),
                |record| -> io::Result<RunRecord> {
                    if record.report_name.is_none() {
                        record.report_name = Some(report::claim_name(record, folder)?);
                    }
                    Ok(record.clone())
                },
            )??;
            let report =
                report::build(&self.manifest, &self.plan, &self.store, &record, self.host());
            let name = record.report_name.as_deref().unwrap_or_default();
            report::write(&report, folder, name)
        });
        if let Err(error) = result {
            // the first error is the one that is told
            let _ = self.report_error.set(error.to_string());
        }
    }
}

/// What the test runner prints of a check that did not pass.
fn message(verdict: &Verdict) -> String {
    let mut text = format!("Error: {}: ", verdict.status.name());
    text.push_str(verdict.message.as_deref().unwrap_or("no reason was given"));
    if !verdict.expected.is_empty() {
        text.push_str(&format!("\nexpected: {}\nobserved: {}", verdict.expected, verdict.observed));
    }
    if let Some(hint) = &verdict.hint {
        text.push_str(&format!("\nhint: {hint}"));
    }
    text
}

/// A folder of this user's own in the system's temporary directory.
fn scratch() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    std::env::temp_dir().join(format!("modelgate-{user}"))
}

/// Where reports go: runs of bundled models alone must not overwrite anybody's summary.
fn report_dir(environment: &Environment, manifest: &Manifest, selection: &Selection) -> PathBuf {
    if let Some(folder) = &environment.report_dir {
        return folder.clone();
    }
    let package = environment.package_dir.as_deref().unwrap_or(Path::new("."));
    let reports = package.join(REPORTS);
    let bundled_alone = manifest.path.is_none()
        && selection.to_run.iter().all(|case| {
            let source = &manifest.models[case.model].source;
            matches!(source, crate::manifest::Source::Local { .. })
        });
    if bundled_alone { reports.join(BUNDLED_REPORTS) } else { reports }
}

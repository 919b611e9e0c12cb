//! The product's entry: arguments and environment to plan, run, report and exit code.

use crate::check::{Status, Verdict};
use crate::env::{self, Environment};
use crate::host::Host;
use crate::manifest::{Manifest, ManifestError, Source};
use crate::measure::{Surroundings, measure};
use crate::plan::{Case, Plan};
use crate::report;
use crate::select::{Selection, nearest_ids};
use crate::signal::{self, Interrupt};
use crate::store::{RunRecord, Store};
use crate::{bundled, hash};
use libtest_mimic::{Arguments, Failed, Trial};
use modelgate_protocol::Measurement;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    if let Err(error) = crate::measure::automatic(&environment) {
        eprintln!("error: {}\nhint: {}", error.message, error.hint);
        return ExitCode::from(USAGE);
    }
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
    if !selection.to_run.is_empty() {
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
    scratch: PathBuf,
    interrupt: Interrupt,
    host: OnceLock<Host>,
    report_error: OnceLock<String>,
    /// Held while a case is judged: a second thread that polled the store's lock would print its
    /// line out of order.
    turn: Mutex<()>,
    /// Cases that passed.
    passed: AtomicUsize,
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
    let arguments = exact(arguments, &session.plan, selection);
    // the runner panics where its output is closed; the verdicts and the report are still ours
    let ran = catch_unwind(AssertUnwindSafe(|| libtest_mimic::run(&arguments, trials)));
    session.write_report();
    let unwritten = session.store.write_error();
    let error = session.report_error.get().or(unwritten.as_ref());
    if let Some(error) = error {
        eprintln!(
            "error: the report could not be written: {error}\nhint: {} names the reports' folder \
             and TMPDIR that of a run's measurements; both need room and permission",
            env::REPORT_DIR
        );
    }
    if let Some(signal) = session.interrupt.signal() {
        return ExitCode::from(u8::try_from(signal::exit_code(signal)).unwrap_or(FAILED));
    }
    // our own count decides: a runner that ran less than was selected must not look like a pass
    let all_passed = session.passed.load(Ordering::Relaxed) == selection.to_run.len();
    let runner_content = ran.map_or(true, |conclusion| !conclusion.has_failed());
    let success = all_passed && runner_content && error.is_none();
    ExitCode::from(if success { PASSED } else { FAILED })
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
    Arguments {
        filter: None,
        exact: true,
        skip,
        test_threads: Some(2),
        bench: false,
        ..arguments.clone()
    }
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
        let scratch = scratch()?;
        let store = Store::open(&scratch, &id)?;
        for case in &selection.to_run {
            store.select(&case.name)?;
        }
        Ok(Session {
            interrupt: Interrupt::install()?,
            fresh: RunRecord { id, started_at, report: None, filter: arguments.filter.clone() },
            environment,
            manifest,
            plan,
            store,
            scratch,
            host: OnceLock::new(),
            report_error: OnceLock::new(),
            turn: Mutex::new(()),
            passed: AtomicUsize::new(0),
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
            Status::Passed => {
                self.passed.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(message(&verdict).into()),
        }
    }

    /// Where the report goes: runs of bundled models alone must not overwrite anybody's summary.
    ///
    /// Under nextest a process knows its own case only, so the folder is read off all that the run
    /// has selected so far; the report moves when the first other model comes.
    fn report_dir(&self) -> PathBuf {
        if let Some(folder) = &self.environment.report_dir {
            return folder.clone();
        }
        let package = self.environment.package_dir.as_deref().unwrap_or(Path::new("."));
        let reports = package.join(REPORTS);
        let is_bundled =
            |case: &Case| matches!(self.manifest.models[case.model].source, Source::Local { .. });
        let mut selected = self.plan.cases.iter().filter(|case| self.store.is_selected(&case.name));
        let bundled_alone = self.manifest.path.is_none() && selected.all(is_bundled);
        if bundled_alone { reports.join(BUNDLED_REPORTS) } else { reports }
    }

    /// Writes the report as the run's folder stands. What goes wrong is kept for the end: the
    /// verdicts matter more.
    fn write_report(&self) {
        let result = self.store.exclusively(|| {
            if self.interrupt.signal().is_some() {
                self.store.set_interrupted()?;
            }
            let folder = self.report_dir();
            let record = self.store.with_run(
                || self.fresh.clone(),
                |record| -> io::Result<RunRecord> {
                    let there =
                        record.report.as_ref().is_some_and(|path| path.starts_with(&folder));
                    if !there {
                        let claimed = report::claim(record, &folder)?;
                        if let Some(old) = record.report.replace(claimed) {
                            report::remove(&old);
                        }
                    }
                    Ok(record.clone())
                },
            )??;
            let report =
                report::build(&self.manifest, &self.plan, &self.store, &record, self.host());
            let path = record.report.unwrap_or_default();
            report::write(&report, &path)
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

/// A folder of this user's own in the system's temporary directory, which others may write to.
fn scratch() -> io::Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let path = std::env::temp_dir().join(format!("modelgate-{user}"));
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
        }
        _ => {}
    }
    let metadata = std::fs::symlink_metadata(&path)?;
    if !metadata.is_dir() || metadata.uid() != user || metadata.mode() & 0o022 != 0 {
        let message = format!("{}: not a folder that this user alone can write", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(path)
}

//! One run: cases are judged, models measured once, and the report kept up to date. Knows no command
//! line and no exit code.

use crate::check::{Status, Verdict};
use crate::cuda_build::CudaBuild;
use crate::env::Environment;
use crate::gpu::{NvmlReadings, Readings};
use crate::hash;
use crate::host::Host;
use crate::manifest::{Manifest, Model, Source};
use crate::measure::{Surroundings, measure};
use crate::plan::{Case, Plan};
use crate::report;
use crate::select::Selection;
use crate::signal::Interrupt;
use crate::store::{RunRecord, Store};
use crate::workers::Workers;
use libtest_mimic::Failed;
use modelgate_protocol::Measurement;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The reports' folder where the environment names none.
const REPORTS: &str = "reports";
/// Its subfolder for runs of bundled models alone.
const BUNDLED_REPORTS: &str = "bundled";

/// All that the trials of a run share.
pub(crate) struct Session {
    environment: Environment,
    manifest: Manifest,
    plan: Plan,
    store: Store,
    fresh: RunRecord,
    scratch: PathBuf,
    interrupt: Interrupt,
    host: OnceLock<Host>,
    workers: OnceLock<Workers>,
    readings: OnceLock<Arc<dyn Readings>>,
    report_error: OnceLock<String>,
    /// Held while a case is judged: a second thread that polled the store's lock would print its
    /// line out of order.
    turn: Mutex<()>,
    /// Cases that passed.
    passed: AtomicUsize,
}

impl Session {
    /// Opens the run's folder and notes what is selected.
    ///
    /// # Errors
    /// The folder cannot be written, or signals cannot be taken over.
    pub(crate) fn open(
        filter: Option<String>,
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
            fresh: RunRecord { id, started_at, report: None, filter },
            environment,
            manifest,
            plan,
            store,
            scratch,
            host: OnceLock::new(),
            workers: OnceLock::new(),
            readings: OnceLock::new(),
            report_error: OnceLock::new(),
            turn: Mutex::new(()),
            passed: AtomicUsize::new(0),
        })
    }

    /// The cases that the manifest makes.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Cases that this process has seen pass.
    pub(crate) fn passed(&self) -> usize {
        self.passed.load(Ordering::Relaxed)
    }

    /// The signal that ended the run, if one did.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.interrupt.signal()
    }

    /// Why the report or a measurement could not be written, if so.
    pub(crate) fn write_error(&self) -> Option<String> {
        self.report_error.get().cloned().or_else(|| self.store.write_error())
    }

    /// Removes the run's folder where no other process has a part in the run.
    pub(crate) fn close(&self) {
        if self.environment.nextest_run_id.is_none() && self.write_error().is_none() {
            self.store.remove();
        }
    }

    fn host(&self) -> &Host {
        self.host.get_or_init(Host::inspect)
    }

    /// Finds the worker programs that the cases of `selection` need, and builds what is missing:
    /// minutes that belong to no test.
    pub(crate) fn prepare_workers(&self, selection: &Selection) {
        self.workers.get_or_init(|| {
            let mut models: Vec<usize> = selection.to_run.iter().map(|case| case.model).collect();
            models.dedup();
            // under nextest another process may have measured it
            let is_open = |model: &&Model| {
                self.environment.attempt > 1 || self.store.measurement(&model.id).is_none()
            };
            let models = models.into_iter().map(|index| &self.manifest.models[index]);
            let models = models.filter(is_open);
            let build = CudaBuild::of_process(&self.environment, &self.interrupt);
            Workers::prepare(models, &self.environment, self.host(), &build)
        });
    }

    /// The worker programs.
    fn workers(&self) -> &Workers {
        self.workers.get_or_init(|| Workers::at_hand(&self.environment))
    }

    /// Measures the case's model, unless that was done, and says what its check says.
    pub(crate) fn judge(&self, case: &Case) -> Result<(), Failed> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.interrupt.signal().is_some() {
            return Err("interrupted before it was run".into());
        }
        let model = &self.manifest.models[case.model];
        let surroundings = Surroundings {
            manifest: &self.manifest,
            environment: &self.environment,
            host: self.host(),
            workers: self.workers(),
            readings: self.readings.get_or_init(|| Arc::new(NvmlReadings::open())),
            scratch: &self.scratch,
            interrupt: &self.interrupt,
        };
        let mut measured_here = false;
        let measurement = self
            .store
            .measure(&model.id, self.environment.attempt, &self.interrupt, || {
                measured_here = true;
                measure(model, &surroundings)
            })
            .map_err(|error| Failed::from(format!("the run's folder: {error}")))?;
        if measured_here {
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
    pub(crate) fn write_report(&self) {
        let result = self.store.exclusively(|| {
            if self.interrupt.signal().is_some() {
                self.store.set_interrupted()?;
            }
            let folder = self.report_dir();
            let record = self.store.with_run(
                || self.fresh.clone(),
                |record| -> io::Result<RunRecord> {
                    let parent = record.report.as_deref().and_then(Path::parent);
                    let there = parent == Some(&folder);
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

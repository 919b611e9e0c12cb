//! One run: cases are judged, models are measured once, and the report is kept up to date.
//! Independent of the command line and the exit code.

use super::measure::{RunContext, measure};
use super::placement::Placing;
use crate::check::{Status, Verdict};
use crate::hash::sha256_hex;
use crate::host::Host;
use crate::manifest::{DeviceChoice, Manifest, Model, Source};
use crate::measurement::Measurement;
use crate::nvidia::{NvmlReadings, Readings};
use crate::plan::{Case, ModelJob, Plan, Selection};
use crate::report;
use crate::settings::Settings;
use crate::signal::Interrupt;
use crate::store::{ModelIdentity, ModelRecord, RunRecord, Store};
use crate::workers::{CudaBuild, Workers};
use libtest_mimic::Failed;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The folder for reports, below the package, if the environment names none.
const REPORTS: &str = "reports";
/// The subfolder for runs with only bundled models.
const BUNDLED_REPORTS: &str = "bundled";

/// The state that all trials of a run share.
pub(super) struct Session {
    settings: Settings,
    manifest: Manifest,
    plan: Plan,
    /// The jobs of the models, in the order of the manifest, each planned on first use.
    jobs: Vec<OnceLock<ModelJob>>,
    store: Store,
    record: RunRecord,
    /// The folder for data that outlives a run.
    scratch: PathBuf,
    interrupt: Interrupt,
    workers: OnceLock<Workers>,
    readings: OnceLock<Arc<dyn Readings>>,
    /// The first error of writing the report.
    report_error: OnceLock<String>,
    /// Locked while a case is judged: otherwise, a second thread that waits for the lock of the
    /// store would print its line out of order.
    judging: Mutex<()>,
    /// The number of cases that passed.
    passed: AtomicUsize,
}

impl Session {
    /// Opens the folder of the run and records the selected cases.
    ///
    /// # Errors
    /// The folder cannot be written, or signals cannot be handled.
    pub(super) fn open(
        filter: Option<String>,
        settings: Settings,
        manifest: Manifest,
        plan: Plan,
        selection: &Selection,
    ) -> io::Result<Session> {
        let started_at = jiff::Timestamp::now();
        let id = match &settings.nextest_run_id {
            Some(id) => format!("nextest-{}", sha256_hex(id.as_bytes())),
            None => format!("{}-{}", started_at.strftime("%Y%m%dT%H%M%S%6f"), std::process::id()),
        };
        let scratch = open_scratch_folder(&settings.temp_dir)?;
        let store = Store::open(&scratch, &id)?;
        for case in &selection.to_run {
            store.select(&case.name)?;
        }
        let jobs: Vec<OnceLock<ModelJob>> = vec![OnceLock::new(); manifest.models.len()];
        let interrupt = Interrupt::install()?;
        let new_record = || {
            let job = |index: usize| {
                let model = &manifest.models[index];
                jobs[index].get_or_init(|| ModelJob::plan(model, &manifest))
            };
            RunRecord {
                id: id.clone(),
                started_at,
                report: None,
                filter,
                manifest_sha256: manifest.sha256.clone(),
                host: inspect(&settings, &manifest),
                models: (0..jobs.len())
                    .map(|i| model_record(i, job(i), &manifest, &plan))
                    .collect(),
            }
        };
        let record = store.with_run(new_record, |record| record.clone())?;
        Ok(Session {
            interrupt,
            record,
            jobs,
            settings,
            manifest,
            plan,
            store,
            scratch,
            workers: OnceLock::new(),
            readings: OnceLock::new(),
            report_error: OnceLock::new(),
            judging: Mutex::new(()),
            passed: AtomicUsize::new(0),
        })
    }

    /// Returns the job of the model with this index in the manifest.
    fn job(&self, index: usize) -> &ModelJob {
        let plan = || ModelJob::plan(&self.manifest.models[index], &self.manifest);
        self.jobs[index].get_or_init(plan)
    }

    /// Returns the cases of the manifest.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the number of cases that passed in this process.
    pub(super) fn passed(&self) -> usize {
        self.passed.load(Ordering::Relaxed)
    }

    /// Returns the signal that ended the run. `None` if no signal arrived.
    pub(super) fn signal(&self) -> Option<i32> {
        self.interrupt.signal()
    }

    /// Returns why the report or a measurement could not be written. `None` if all were written.
    pub(super) fn write_error(&self) -> Option<String> {
        self.report_error.get().cloned().or_else(|| self.store.write_error())
    }

    /// Removes the folder of the run, unless other processes take part in the run or a file could
    /// not be written.
    pub(super) fn close(&self) {
        if self.settings.nextest_run_id.is_none() && self.write_error().is_none() {
            self.store.remove();
        }
    }

    /// Finds the worker programs for the cases of `selection`, and builds missing ones, which takes
    /// minutes that no test should include.
    pub(super) fn prepare_workers(&self, selection: &Selection) {
        self.workers.get_or_init(|| {
            let mut models: Vec<usize> = selection.to_run.iter().map(|case| case.model).collect();
            models.dedup();
            // under nextest, another process may have measured the model
            let is_unmeasured = |model: &&Model| {
                self.settings.attempt > 1 || self.store.measurement(&model.id).is_none()
            };
            let unmeasured =
                models.iter().filter(|index| is_unmeasured(&&self.manifest.models[**index]));
            let settings = &self.settings;
            let build = CudaBuild {
                settings: &settings.build,
                inherited: &settings.worker.variables,
                interrupt: &self.interrupt,
            };
            let placing = Placing { settings, host: &self.record.host };
            // a model with a missing device fails on its own, with the reason
            let first_gpus = unmeasured.filter_map(|index| placing.expected_gpu(self.job(*index)));
            Workers::prepare(first_gpus, &settings.worker, &build)
        });
    }

    /// Returns the worker programs.
    fn workers(&self) -> &Workers {
        self.workers.get_or_init(|| Workers::existing(&self.settings.worker))
    }

    /// Measures the model of the case, unless it was measured already, and returns the verdict of
    /// the check.
    pub(super) fn judge(&self, case: &Case) -> Result<(), Failed> {
        let _judging = self.judging.lock().unwrap_or_else(PoisonError::into_inner);
        if self.interrupt.signal().is_some() {
            return Err("interrupted before the case ran".into());
        }
        let job = self.job(case.model);
        let context = RunContext {
            settings: &self.settings,
            host: &self.record.host,
            workers: self.workers(),
            readings: self.readings.get_or_init(|| Arc::new(NvmlReadings::open())),
            scratch: &self.scratch,
            interrupt: &self.interrupt,
        };
        let mut measured_here = false;
        let measurement = self
            .store
            .measure(&job.spec.id, self.settings.attempt, &self.interrupt, || {
                measured_here = true;
                measure(job, &context)
            })
            .map_err(|error| Failed::from(format!("folder of the run: {error}")))?;
        if measured_here {
            self.write_report();
        }
        self.verdict(case, &measurement)
    }

    /// Returns the result of the check of `case` for `measurement`.
    fn verdict(&self, case: &Case, measurement: &Measurement) -> Result<(), Failed> {
        let model = self.record.models.iter().find(|model| model.identity.id == self.id(case));
        let Some(model) = model else {
            return Err(
                "the model is not in the manifest of the process that started this run".into()
            );
        };
        let verdict = case.check.verdict(measurement, &model.expectation);
        match verdict.status {
            Status::Passed => {
                self.passed.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(message(&verdict).into()),
        }
    }

    fn id(&self, case: &Case) -> &str {
        &self.manifest.models[case.model].id
    }

    /// Returns the folder for reports: runs with only bundled models must not replace the summary
    /// of other runs.
    ///
    /// Under nextest, a process knows only its own case, so that the folder depends on all cases
    /// that the run has selected so far; the report moves when the first other model is selected.
    fn report_dir(&self) -> PathBuf {
        if let Some(folder) = &self.settings.report_dir {
            return folder.clone();
        }
        let reports = self.settings.package_dir.join(REPORTS);
        let is_selected =
            |model: &&ModelRecord| model.cases.iter().any(|(_, name)| self.store.is_selected(name));
        let mut selected = self.record.models.iter().filter(is_selected);
        let only_bundled = selected.all(|model| model.is_bundled);
        if only_bundled { reports.join(BUNDLED_REPORTS) } else { reports }
    }

    /// Writes the report from the current state of the store. An error is reported at the end,
    /// because the verdicts are more important.
    pub(super) fn write_report(&self) {
        let result = self.store.with_report_lock(|| {
            if self.interrupt.signal().is_some() {
                self.store.set_interrupted()?;
            }
            let folder = self.report_dir();
            let record = self.store.with_run(
                || self.record.clone(),
                |record| -> io::Result<RunRecord> {
                    let parent = record.report.as_deref().and_then(Path::parent);
                    if parent != Some(&folder) {
                        let reserved = report::reserve(record, &folder)?;
                        if let Some(old) = record.report.replace(reserved) {
                            report::remove(&old);
                        }
                    }
                    Ok(record.clone())
                },
            )??;
            let report = report::build(&self.store, &record);
            report::write(&report, &record.report.unwrap_or_default())
        });
        if let Err(error) = result {
            // only the first error is reported
            let _ = self.report_error.set(error.to_string());
        }
    }
}

/// Inspects the host. Measures the bandwidth of its memory if a device may be chosen by it.
fn inspect(settings: &Settings, manifest: &Manifest) -> Host {
    let host = Host::inspect();
    let is_open = |model: &Model| model.device == DeviceChoice::Auto;
    if settings.device.is_none() && manifest.models.iter().any(is_open) {
        host.with_memory_rate()
    } else {
        host
    }
}

/// Returns the record of the model with this index in the manifest.
fn model_record(index: usize, job: &ModelJob, manifest: &Manifest, plan: &Plan) -> ModelRecord {
    let model = &job.spec;
    let (repo, path, revision) = match &model.source {
        Source::Hub { repo, revision, .. } => (Some(repo.clone()), None, Some(revision.clone())),
        Source::Local { path } => (None, Some(path.display().to_string()), None),
    };
    let cases = plan.cases.iter().filter(|case| case.model == index);
    ModelRecord {
        is_bundled: manifest.path.is_none() && repo.is_none(),
        identity: ModelIdentity {
            id: model.id.clone(),
            repo,
            path,
            revision,
            quantization: model.quantization,
            evidence: model.weights.evidence(),
        },
        cases: cases.map(|case| (case.check, case.name.clone())).collect(),
        expectation: job.expectation.clone(),
    }
}

/// Returns the text that the test runner prints for a check that did not pass.
fn message(verdict: &Verdict) -> String {
    let mut text = format!("Error: {}: ", verdict.status.name());
    text.push_str(verdict.message.as_deref().unwrap_or("unknown reason"));
    if !verdict.expected.is_empty() {
        text.push_str(&format!("\nexpected: {}\nobserved: {}", verdict.expected, verdict.observed));
    }
    if let Some(hint) = verdict.hint.as_deref().filter(|hint| !hint.is_empty()) {
        text.push_str(&format!("\nhint: {hint}"));
    }
    text
}

/// Opens or creates a folder below `temp_dir` that only this user can write.
///
/// # Errors
/// The folder cannot be created, or another user can write it.
fn open_scratch_folder(temp_dir: &Path) -> io::Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let path = temp_dir.join(format!("modelgate-{user}"));
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
        }
        _ => {}
    }
    let metadata = std::fs::symlink_metadata(&path)?;
    if !metadata.is_dir() || metadata.uid() != user || metadata.mode() & 0o022 != 0 {
        let message =
            format!("{}: expected a folder that only this user can write", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(path)
}

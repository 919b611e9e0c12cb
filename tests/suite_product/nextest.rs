//! Tests of runs under nextest, which starts a separate process for each test. These tests start
//! the processes like nextest (`NAME --exact --nocapture`, the run id in the environment), in
//! parallel.

use crate::common::{
    Run, StartedRun, child_pids, entry, fixture, json_reports, random_model, read_report,
    send_signal,
};
use modelgate_harness::check::{Check, Status};
use modelgate_harness::report::RunState;
use rustix::process::Signal;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// A nextest run: processes that share a manifest and a folder.
struct NextestRun {
    shared: TempDir,
    models: String,
}

impl NextestRun {
    fn new(models: String) -> NextestRun {
        let shared = TempDir::new().expect("a folder");
        std::fs::create_dir(shared.path().join("tmp")).expect("a folder");
        NextestRun { shared, models }
    }

    /// Returns the run of one case, `MODEL::CHECK`.
    fn case(&self, name: &str, attempt: u32) -> Run {
        Run::manifest(&self.models)
            .single_threaded()
            .args(&[name, "--exact", "--nocapture"])
            .env("NEXTEST", "1")
            .env("NEXTEST_RUN_ID", "6b1b52ef-35a7-4c32-8d4f-1c2e0d7a9a01")
            .env("NEXTEST_ATTEMPT", attempt.to_string())
            .env("TMPDIR", self.shared.path().join("tmp"))
            .env("MODELGATE_REPORT_DIR", self.reports())
    }

    fn reports(&self) -> std::path::PathBuf {
        self.shared.path().join("reports")
    }

    /// Starts a process for each check of the model `id`.
    fn start_all(&self, id: &str) -> Vec<StartedRun> {
        Check::ALL
            .iter()
            .map(|check| self.case(&format!("{id}::{}", check.name()), 1).spawn())
            .collect()
    }
}

/// Waits for all processes. Returns their exit codes and the process ids of all their workers.
fn wait_all(running: Vec<StartedRun>) -> (Vec<Option<i32>>, HashSet<u32>) {
    let parents: Vec<u32> = running.iter().map(|running| running.child.id()).collect();
    let watcher = std::thread::spawn(move || {
        let mut workers = HashSet::new();
        while parents.iter().any(|pid| Path::new(&format!("/proc/{pid}/exe")).exists()) {
            workers.extend(parents.iter().flat_map(|pid| child_pids(*pid)));
            std::thread::sleep(Duration::from_millis(1));
        }
        workers
    });
    let codes = running.into_iter().map(|running| running.wait().code).collect();
    (codes, watcher.join().expect("the watcher ends"))
}

#[test]
fn five_processes_share_one_load_and_one_report() {
    let nextest = NextestRun::new(entry("tiny", &fixture("tiny/llama"), "q4_k", ""));
    let (codes, workers) = wait_all(nextest.start_all("tiny"));
    assert_eq!(codes, [Some(0); 5]);
    assert_eq!(workers.len(), 1, "one load");
    let reports = json_reports(&nextest.reports());
    assert_eq!(reports.len(), 1, "one report");
    let report = read_report(&reports[0]);
    assert!(report.models[0].checks.iter().all(|verdict| verdict.status == Status::Passed));
}

#[test]
fn a_killed_worker_fails_all_five_checks_and_a_retry_passes() {
    let nextest = NextestRun::new(entry("slow", random_model(), "q4_k", ""));
    let running = nextest.start_all("slow");
    let worker = loop {
        let started = running.iter().flat_map(|running| child_pids(running.child.id())).next();
        if let Some(worker) = started {
            break worker;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    std::thread::sleep(Duration::from_millis(300));
    send_signal(worker, Signal::KILL);
    let (codes, workers) = wait_all(running);
    assert_eq!(codes, [Some(101); 5]);
    assert!(workers.iter().all(|pid| *pid == worker), "no second load: {workers:?}");
    let again = nextest.case("slow::load", 1).run();
    assert_eq!(again.code, Some(101), "the same attempt uses the existing measurement");
    let retried = nextest.case("slow::load", 2).run();
    assert_eq!(retried.code, Some(0), "a retry measures again: {}", retried.output());
}

#[test]
fn a_killed_harness_is_reported_as_a_failure() {
    let nextest = NextestRun::new(entry("slow", random_model(), "q4_k", ""));
    let mut first = nextest.case("slow::load", 1).spawn();
    first.worker();
    first.child.kill().expect("killed");
    first.wait();
    let second = nextest.case("slow::quantization", 1).run();
    assert_eq!(second.code, Some(101), "{}", second.output());
    let report = read_report(&json_reports(&nextest.reports())[0]);
    assert_eq!(report.run.state, RunState::Finished);
    let passed = report.models[0].checks.iter().any(|verdict| verdict.status == Status::Passed);
    assert!(!passed);
    let summary = nextest.reports().join("MODEL_VALIDATION_SUMMARY.md");
    let summary = std::fs::read_to_string(summary).expect("a summary");
    assert!(summary.starts_with("FAILED: slow"), "{summary}");
}

#[test]
fn the_report_moves_when_a_run_measures_more_than_bundled_models() {
    let package = TempDir::new().expect("a folder");
    let shared = package.path().join("tmp");
    std::fs::create_dir(&shared).expect("a folder");
    let case = |name: &str| {
        Run::bundled()
            .args(&[name, "--exact", "--nocapture", "--include-ignored"])
            .env("NEXTEST_RUN_ID", "0a1b52ef-35a7-4c32-8d4f-1c2e0d7a9a02")
            .env("TMPDIR", &shared)
            .env("CARGO_MANIFEST_DIR", package.path())
            .env_remove("MODELGATE_REPORT_DIR")
            .run()
    };
    let (all, bundled) = (package.path().join("reports"), package.path().join("reports/bundled"));
    assert_eq!(case("tiny-llama@q8_0::load").code, Some(0));
    assert_eq!((json_reports(&bundled).len(), json_reports(&all).len()), (1, 0));
    assert_eq!(case("some-name::load").code, Some(101), "the name of a case without a match");
    assert_eq!((json_reports(&bundled).len(), json_reports(&all).len()), (1, 0));
    case("qwen2.5-omni-7b::load");
    assert_eq!((json_reports(&bundled).len(), json_reports(&all).len()), (0, 1));
    assert_eq!(read_report(&json_reports(&all)[0]).models.len(), 2);
}

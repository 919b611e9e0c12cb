//! Under nextest every test is a process of its own. This starts them as nextest does (`NAME
//! --exact --nocapture`, the run's id in the environment), all at once.

use crate::common::{
    Run, Running, children, entry, fixture, json_reports, random_model, read_valid, send,
};
use modelgate_harness::check::{Check, Status};
use modelgate_harness::report::RunState;
use rustix::process::Signal;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

struct Suite {
    shared: TempDir,
    models: String,
}

impl Suite {
    fn new(models: String) -> Suite {
        let shared = TempDir::new().expect("a folder");
        std::fs::create_dir(shared.path().join("tmp")).expect("a folder");
        Suite { shared, models }
    }

    fn case(&self, name: &str, attempt: u32) -> Run {
        Run::manifest(&self.models)
            .slowly()
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

    fn start_all(&self, id: &str) -> Vec<Running> {
        Check::ALL
            .iter()
            .map(|check| self.case(&format!("{id}::{}", check.name()), 1).spawn())
            .collect()
    }
}

/// Waits for all, noting every worker that any of them had.
fn wait_all(running: Vec<Running>) -> (Vec<Option<i32>>, HashSet<u32>) {
    let parents: Vec<u32> = running.iter().map(|running| running.child.id()).collect();
    let watcher = std::thread::spawn(move || {
        let mut workers = HashSet::new();
        while parents.iter().any(|pid| Path::new(&format!("/proc/{pid}/exe")).exists()) {
            workers.extend(parents.iter().flat_map(|pid| children(*pid)));
            std::thread::sleep(Duration::from_millis(1));
        }
        workers
    });
    let codes = running.into_iter().map(|running| running.wait().code).collect();
    (codes, watcher.join().expect("the watcher ends"))
}

#[test]
fn five_processes_share_one_load_and_one_report() {
    let suite = Suite::new(entry("tiny", &fixture("tiny/llama"), "q4_k", ""));
    let (codes, workers) = wait_all(suite.start_all("tiny"));
    assert_eq!(codes, [Some(0); 5]);
    assert_eq!(workers.len(), 1, "one load");
    let reports = json_reports(&suite.reports());
    assert_eq!(reports.len(), 1, "one report");
    let report = read_valid(&reports[0]);
    assert!(report.models[0].checks.iter().all(|verdict| verdict.status == Status::Passed));
}

#[test]
fn a_worker_killed_during_load_costs_one_load_and_fails_all_five_until_a_retry() {
    let suite = Suite::new(entry("slow", random_model(), "q4_k", "deadline = \"3s\""));
    let running = suite.start_all("slow");
    let worker = loop {
        let started = running.iter().flat_map(|running| children(running.child.id())).next();
        if let Some(worker) = started {
            break worker;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    std::thread::sleep(Duration::from_millis(300));
    send(worker, Signal::KILL);
    let (codes, workers) = wait_all(running);
    assert_eq!(codes, [Some(101); 5]);
    assert!(workers.iter().all(|pid| *pid == worker), "no second load: {workers:?}");
    let again = suite.case("slow::load", 1).run();
    assert_eq!(again.code, Some(101), "the same attempt reads what is there");
    let retried = suite.case("slow::load", 2).run();
    assert_eq!(retried.code, Some(101));
    assert!(retried.stdout.contains("deadline"), "a retry measures again: {}", retried.stdout);
}

#[test]
fn a_harness_killed_while_it_measures_leaves_a_failure_and_not_a_gap() {
    let suite = Suite::new(entry("slow", random_model(), "q4_k", ""));
    let mut first = suite.case("slow::load", 1).spawn();
    first.worker();
    first.child.kill().expect("killed");
    first.wait();
    let second = suite.case("slow::quantization", 1).run();
    assert_eq!(second.code, Some(101), "{}", second.all());
    let report = read_valid(&json_reports(&suite.reports())[0]);
    assert_eq!(report.run.state, RunState::Finished);
    let passed = report.models[0].checks.iter().any(|verdict| verdict.status == Status::Passed);
    assert!(!passed);
    let summary = suite.reports().join("MODEL_VALIDATION_SUMMARY.md");
    let summary = std::fs::read_to_string(summary).expect("a summary");
    assert!(summary.starts_with("FAILED: slow"), "{summary}");
}

#[test]
fn the_report_of_bundled_models_moves_when_another_model_joins_the_run() {
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
    assert_eq!(case("some-name::load").code, Some(0), "nothing matches: a warning");
    case("qwen2.5-omni-7b::load");
    assert_eq!((json_reports(&bundled).len(), json_reports(&all).len()), (0, 1));
    assert_eq!(read_valid(&json_reports(&all)[0]).models.len(), 2);
}

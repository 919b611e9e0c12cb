//! Tests of signals to the harness: within 5 s it ends the worker, writes the report and exits.

use crate::common::{Run, StartedRun, entry, fixture, is_alive, random_model};
use modelgate_harness::check::Status;
use modelgate_harness::measurement::Outcome;
use modelgate_harness::report::RunState;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Starts a run of three models and waits until the second, slow one loads. Returns the run and the
/// process id of the worker.
fn start() -> (StartedRun, u32) {
    let tiny = fixture("tiny/llama");
    let models = entry("before", &tiny, "q8_0", "")
        + &entry("slow", random_model(), "q4_k", "")
        + &entry("after", &tiny, "q8_0", "");
    let mut running = Run::manifest(&models).single_threaded().spawn();
    let first = running.worker();
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let worker = running.worker();
        if worker != first {
            std::thread::sleep(Duration::from_millis(300));
            return (running, worker);
        }
        assert!(Instant::now() < until, "the second model starts");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asserts that a signal interrupts the run and that the exit code is `code`.
fn assert_signal_ends_run(signal: Signal, code: i32) {
    let (running, worker) = start();
    running.signal(signal);
    let sent = Instant::now();
    let ended = running.wait();
    assert!(sent.elapsed() < Duration::from_secs(5), "{:?}", sent.elapsed());
    assert_eq!(ended.code, Some(code), "{}", ended.output());
    assert!(!is_alive(worker), "no process is left");
    ended.assert_passes("before");
    let report = ended.report.as_ref().expect("a report");
    assert_eq!(report.run.state, RunState::Interrupted);
    assert_eq!(ended.model("slow").measurement.outcome, Outcome::Interrupted);
    assert_eq!(ended.model("after").measurement.outcome, Outcome::NotRun);
    for id in ["slow", "after"] {
        let passed = |status| status == Status::Passed;
        assert!(!ended.model(id).checks.iter().any(|verdict| passed(verdict.status)));
    }
    let summary = ended.summary.as_deref().expect("a summary");
    assert!(summary.starts_with("INCOMPLETE: slow, after (1 of 3 models validated)"), "{summary}");
}

#[test]
fn sigint_ends_the_run_with_a_report() {
    assert_signal_ends_run(Signal::INT, 130);
}

#[test]
fn sigterm_ends_the_run_with_a_report() {
    assert_signal_ends_run(Signal::TERM, 143);
}

#[test]
fn a_second_signal_ends_the_run_immediately() {
    let (running, worker) = start();
    crate::common::send_signal(worker, Signal::STOP); // the harness waits for a stopped worker
    running.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(100));
    let sent = Instant::now();
    running.signal(Signal::INT);
    let ended = running.wait();
    assert_eq!(ended.code, Some(130), "{}", ended.output());
    assert!(sent.elapsed() < Duration::from_millis(500), "{:?}", sent.elapsed());
    crate::common::send_signal(worker, Signal::CONT); // it ends because standard input is closed
    assert_ends(worker);
}

#[test]
fn the_worker_ends_when_its_parent_is_killed() {
    let (mut running, worker) = start();
    running.child.kill().expect("killed");
    running.child.wait().expect("reaped");
    assert_ends(worker);
}

#[test]
fn a_worker_ignores_sigint_and_sigterm() {
    let (running, worker) = start();
    crate::common::send_signal(worker, Signal::INT);
    crate::common::send_signal(worker, Signal::TERM);
    std::thread::sleep(Duration::from_millis(100));
    assert!(is_alive(worker));
    running.signal(Signal::INT);
    running.wait();
}

/// Asserts that a worker ends within 5 s.
fn assert_ends(pid: u32) {
    let until = Instant::now() + Duration::from_secs(5);
    while is_alive(pid) {
        assert!(Instant::now() < until, "the worker ends within 5 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

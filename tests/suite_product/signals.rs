//! Signals to the harness: the worker is ended, the report written, the process gone within 5 s.

use crate::common::{Run, Running, entry, fixture, is_alive, random_model};
use modelgate_harness::check::Status;
use modelgate_harness::measurement::Outcome;
use modelgate_harness::report::RunState;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// A sound model, one that takes seconds, and one whose turn does not come.
fn start() -> (Running, u32) {
    let tiny = fixture("tiny/llama");
    let models = entry("before", &tiny, "q8_0", "")
        + &entry("slow", random_model(), "q4_k", "")
        + &entry("after", &tiny, "q8_0", "");
    let mut running = Run::manifest(&models).slowly().spawn();
    let first = running.worker();
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let worker = running.worker();
        if worker != first {
            std::thread::sleep(Duration::from_millis(300));
            return (running, worker);
        }
        assert!(Instant::now() < until, "the second model's turn comes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ends_with(signal: Signal, code: i32) {
    let (running, worker) = start();
    running.signal(signal);
    let asked = Instant::now();
    let ended = running.wait();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(ended.code, Some(code), "{}", ended.all());
    assert!(!is_alive(worker), "no process is left");
    ended.passes("before");
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
fn control_c() {
    ends_with(Signal::INT, 130);
}

#[test]
fn termination() {
    ends_with(Signal::TERM, 143);
}

#[test]
fn a_second_signal_ends_at_once() {
    let (running, worker) = start();
    crate::common::send(worker, Signal::STOP); // so that the first signal has to wait for it
    running.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(100));
    let asked = Instant::now();
    running.signal(Signal::INT);
    let ended = running.wait();
    assert_eq!(ended.code, Some(130), "{}", ended.all());
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    crate::common::send(worker, Signal::CONT); // it ends as its standard input is closed
    gone(worker);
}

#[test]
fn the_worker_ends_when_its_parent_is_killed() {
    let (mut running, worker) = start();
    running.child.kill().expect("killed");
    running.child.wait().expect("reaped");
    gone(worker);
}

#[test]
fn a_worker_does_not_end_by_signals_meant_for_its_parent() {
    let (running, worker) = start();
    crate::common::send(worker, Signal::INT);
    crate::common::send(worker, Signal::TERM);
    std::thread::sleep(Duration::from_millis(100));
    assert!(is_alive(worker));
    running.signal(Signal::INT);
    running.wait();
}

fn gone(pid: u32) {
    let until = Instant::now() + Duration::from_secs(5);
    while is_alive(pid) {
        assert!(Instant::now() < until, "the worker is gone within 5 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

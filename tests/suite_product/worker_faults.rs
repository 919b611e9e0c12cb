//! Tests of workers that end, stall or misbehave: the model fails, and the next model is still
//! measured. Most tests use the real worker on a real file.

use crate::common::{
    FinishedRun, Run, Script, StartedRun, child_pids, entry, fixture, is_alive, random_model,
    send_signal, worker_binary,
};
use modelgate_harness::check::{Check, Status};
use modelgate_harness::measurement::Outcome;
use modelgate_protocol::{FailureKind, Stage};
use rustix::process::Signal;
use std::time::Duration;

/// Returns the manifest entries of a model that loads for seconds and of a tiny model.
fn slow_then_valid(more: &str) -> String {
    entry("slow", random_model(), "q4_k", more)
        + &entry("valid", &fixture("tiny/llama"), "q8_0", "")
}

/// Asserts that `load` of the model `slow` failed with `kind`, that its other checks are blocked,
/// and that the model `valid` passed. Returns the message.
fn assert_slow_fails(ended: &FinishedRun, outcome: Outcome, kind: FailureKind) -> String {
    let message = ended.assert_only_fails("slow", Check::Load, Status::Blocked);
    ended.assert_passes("valid");
    let measurement = &ended.model("slow").measurement;
    assert_eq!(measurement.outcome, outcome, "{}", ended.output());
    assert_eq!(measurement.failure.as_ref().map(|f| f.kind), Some(kind), "{}", ended.output());
    assert!(!measurement.phases.is_empty(), "the measurement until the failure is kept");
    let summary = ended.summary.as_deref().expect("a summary");
    assert!(summary.starts_with("FAILED: slow (1 of 2 models validated)"), "{summary}");
    message
}

/// Waits until the worker loads the model, and returns its process id.
fn wait_until_loading(running: &mut StartedRun) -> u32 {
    let worker = running.worker();
    std::thread::sleep(Duration::from_millis(700));
    assert!(is_alive(worker), "the load takes longer than that");
    worker
}

#[test]
fn a_worker_killed_during_the_load_is_reported() {
    let mut running = Run::manifest(&slow_then_valid("")).single_threaded().spawn();
    let worker = wait_until_loading(&mut running);
    send_signal(worker, Signal::KILL);
    let ended = running.wait();
    let failure = ended.model("slow").measurement.failure.clone().expect("a failure");
    // if no cgroup counts out-of-memory kills, SIGKILL is reported as a probable one
    let message = assert_slow_fails(&ended, Outcome::Crashed, failure.kind);
    match failure.kind {
        FailureKind::Crashed => assert!(message.contains("SIGKILL"), "{message}"),
        FailureKind::HostMemory => assert!(message.contains("probably"), "{message}"),
        _ => panic!("{failure}"),
    }
    assert_eq!(failure.stage, Stage::Load);
    let model = ended.model("slow");
    assert!(
        !model.measurement.tensors.list.is_empty(),
        "the tensors loaded before the kill are reported"
    );
    assert!(model.measurement.memory.host.as_ref().is_some_and(|host| host.peak_private > 0));
}

#[test]
fn a_worker_that_aborts_is_reported() {
    let mut running = Run::manifest(&slow_then_valid("")).single_threaded().spawn();
    let worker = wait_until_loading(&mut running);
    send_signal(worker, Signal::ABORT);
    let message = assert_slow_fails(&running.wait(), Outcome::Crashed, FailureKind::Crashed);
    assert!(message.contains("SIGABRT"), "{message}");
}

#[test]
fn a_worker_that_exceeds_the_deadline_is_reported() {
    let ended = Run::manifest(&slow_then_valid("deadline = \"500ms\"")).single_threaded().run();
    let message =
        assert_slow_fails(&ended, Outcome::DeadlineExceeded, FailureKind::DeadlineExceeded);
    assert!(message.contains("500 ms"), "{message}");
}

#[test]
fn a_worker_that_stalls_is_killed_and_reported() {
    let mut running = Run::manifest(&slow_then_valid("stall = \"1s\"")).single_threaded().spawn();
    let worker = wait_until_loading(&mut running);
    send_signal(worker, Signal::STOP);
    let message =
        assert_slow_fails(&running.wait(), Outcome::DeadlineExceeded, FailureKind::Stalled);
    assert!(message.contains("no progress for 1 s"), "{message}");
    assert!(!is_alive(worker), "a stopped worker is killed");
}

#[test]
fn a_worker_without_enough_memory_is_reported() {
    // 270 million weights in q8_0 need 290 MB; the limit applies to address space, which also
    // includes the program and the thread stacks
    let limited = Script::new("#!/bin/sh\nulimit -v 262144\nexec \"$WORKER\"");
    let run = Run::manifest(&entry("slow", random_model(), "q8_0", ""));
    let ended = run.env("MODELGATE_WORKER", limited.path()).env("WORKER", worker_binary()).run();
    let message = ended.assert_only_fails("slow", Check::Load, Status::Blocked);
    let failure = ended.model("slow").measurement.failure.as_ref().expect("a failure");
    assert_eq!(failure.kind, FailureKind::HostMemory, "{message}");
}

#[test]
fn a_worker_may_print_to_standard_output() {
    let noisy = Script::new(
        "#!/bin/sh\necho '{\"event\": \"done\"}'; echo nonsense; echo more >&2\nexec \"$WORKER\"",
    );
    let run = Run::manifest(&entry("valid", &fixture("tiny/llama"), "q8_0", ""));
    let ended = run.env("MODELGATE_WORKER", noisy.path()).env("WORKER", worker_binary()).run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    ended.assert_passes("valid");
    assert!(!ended.stdout.contains("nonsense"), "standard output of the worker is not printed");
    assert!(
        ended.model("valid").measurement.worker_stderr.contains("nonsense"),
        "it is in the report"
    );
}

#[test]
fn a_worker_that_exits_without_an_event_is_reported() {
    for (body, message_part) in [("exit 7", "exit code 7"), ("exit 0", "exit code 0")] {
        let silent = Script::new(&format!("#!/bin/sh\n{body}"));
        let run = Run::manifest(&entry("a", &fixture("tiny/llama"), "q8_0", ""));
        let ended = run.env("MODELGATE_WORKER", silent.path()).run();
        let message = ended.assert_only_fails("a", Check::Load, Status::Blocked);
        assert!(message.contains(message_part), "{message}");
    }
}

#[test]
fn invalid_events_are_reported() {
    let cases = [
        ("echo nonsense >&3", "a line is not a valid event"),
        ("echo '{\"event\": \"loaded\"}' >&3", "the first event of the worker is not `hello`"),
        (
            "echo '{\"event\": \"hello\", \"protocol\": 99, \"engine\": {\"name\": \"x\", \
             \"version\": \"1\", \"build\": \"b\", \"compute_capability\": null}}' >&3",
            "found 99",
        ),
    ];
    for (body, message_part) in cases {
        let program = Script::new(&format!("#!/bin/sh\n{body}\nsleep 60"));
        let run = Run::manifest(&entry("a", &fixture("tiny/llama"), "q8_0", ""));
        let ended = run.env("MODELGATE_WORKER", program.path()).run();
        let message = ended.assert_only_fails("a", Check::Load, Status::Blocked);
        assert!(message.contains(message_part), "{message}");
    }
}

#[test]
fn a_missing_or_non_executable_worker_is_reported() {
    for worker in ["/no/such/worker", "/etc/hostname"] {
        let run = Run::manifest(&entry("a", &fixture("tiny/llama"), "q8_0", ""));
        let ended = run.env("MODELGATE_WORKER", worker).run();
        let message = ended.assert_only_fails("a", Check::Load, Status::Blocked);
        assert!(message.contains(worker), "{message}");
    }
}

#[test]
fn child_processes_of_a_wrapper_are_killed() {
    let wrapper = Script::new("#!/bin/sh\nsleep 47\ntrue");
    let run = Run::manifest(&entry("a", &fixture("tiny/llama"), "q8_0", "deadline = \"1s\""));
    let mut running = run.env("MODELGATE_WORKER", wrapper.path()).spawn();
    let shell = running.worker();
    std::thread::sleep(Duration::from_millis(300));
    let sleeper = *child_pids(shell).first().expect("the shell's child");
    running.wait().assert_only_fails("a", Check::Load, Status::Blocked);
    assert!(!is_alive(shell) && !is_alive(sleeper));
}

#[test]
fn a_request_larger_than_the_pipe_buffer_is_delivered() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let text = folder.path().join("long.txt");
    std::fs::write(&text, "A long text. ".repeat(20_000)).expect("a text");
    let slow = Script::new("#!/bin/sh\nsleep 2\nread -r line\necho \"${#line}\" >&2\nexit 5");
    let models = format!(
        "[[model]]\nid = \"a\"\npath = \"{}\"\nquantization = \"q8_0\"\n\
         expect.perplexity = {{ text = \"{}\" }}\n",
        fixture("tiny/llama").display(),
        text.display()
    );
    let ended = Run::manifest(&models).env("MODELGATE_WORKER", slow.path()).run();
    let message = ended.assert_only_fails("a", Check::Load, Status::Blocked);
    assert!(message.contains("exit code 5"), "{message}");
    let length: usize =
        ended.model("a").measurement.worker_stderr.trim().parse().expect("the request's length");
    assert!(length > 260_000, "{length}");
}

#[test]
fn a_missing_library_is_reported_with_its_origin() {
    let program = Script::new(
        "#!/bin/sh\necho \"$0: error while loading shared libraries: libcublas.so.13: cannot open \
         shared object file: No such file or directory\" >&2\nexit 127",
    );
    let run = Run::manifest(&entry("a", &fixture("tiny/llama"), "q8_0", ""));
    let ended = run.env("MODELGATE_WORKER", program.path()).run();
    let message = ended.assert_only_fails("a", Check::Load, Status::Blocked);
    assert!(message.contains("the library libcublas.so.13 was not found"), "{message}");
    let hint = ended.verdict("a", Check::Load).hint.clone().unwrap_or_default();
    assert!(hint.contains("CUDA toolkit"), "{hint}");
}

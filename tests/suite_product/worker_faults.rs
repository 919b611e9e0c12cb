//! What can become of a worker: each becomes a failure of one model, and the next model's verdict
//! still comes out. The worker is the real one, loading a real file; what happens to it is real.

use crate::common::{
    Ended, Run, Running, Script, children, entry, fixture, is_alive, random_model, send,
    worker_binary,
};
use modelgate_harness::check::{Check, Status};
use modelgate_harness::measurement::Outcome;
use modelgate_protocol::{FailureKind, Stage};
use rustix::process::Signal;
use std::time::Duration;

/// A model that takes seconds to load, followed by one that takes none.
fn slow_then_sound(more: &str) -> String {
    entry("slow", random_model(), "q4_k", more)
        + &entry("sound", &fixture("tiny/llama"), "q8_0", "")
}

/// All five checks of `slow` do not pass, one failed and four blocked or, after the load, as far as
/// it came; `sound` passes.
fn conclude(ended: &Ended, outcome: Outcome, kind: FailureKind) -> String {
    let message = ended.fails_only("slow", Check::Load, Status::Blocked);
    ended.passes("sound");
    let measurement = &ended.model("slow").measurement;
    assert_eq!(measurement.outcome, outcome, "{}", ended.all());
    assert_eq!(measurement.failure.as_ref().map(|f| f.kind), Some(kind), "{}", ended.all());
    assert!(!measurement.phases.is_empty(), "what was seen up to then is kept");
    let summary = ended.summary.as_deref().expect("a summary");
    assert!(summary.starts_with("FAILED: slow (1 of 2 models validated)"), "{summary}");
    message
}

/// Waits until the worker is in the middle of its load.
fn in_the_middle(running: &mut Running) -> u32 {
    let worker = running.worker();
    std::thread::sleep(Duration::from_millis(700));
    assert!(is_alive(worker), "the load takes longer than that");
    worker
}

#[test]
fn killed_in_the_middle_of_a_load() {
    let mut running = Run::manifest(&slow_then_sound("")).slowly().spawn();
    let worker = in_the_middle(&mut running);
    send(worker, Signal::KILL);
    let ended = running.wait();
    let failure = ended.model("slow").measurement.failure.clone().expect("a failure");
    // where no control group counts out-of-memory kills, such a kill is probably one
    let message = conclude(&ended, Outcome::Crashed, failure.kind);
    match failure.kind {
        FailureKind::Crashed => assert!(message.contains("SIGKILL"), "{message}"),
        FailureKind::HostMemory => assert!(message.contains("probably"), "{message}"),
        _ => panic!("{failure}"),
    }
    assert_eq!(failure.stage, Stage::Load);
    let model = ended.model("slow");
    assert!(!model.measurement.tensors.list.is_empty(), "tensors resident before the kill");
    assert!(model.measurement.memory.host.as_ref().is_some_and(|host| host.peak_private > 0));
}

#[test]
fn aborting() {
    let mut running = Run::manifest(&slow_then_sound("")).slowly().spawn();
    let worker = in_the_middle(&mut running);
    send(worker, Signal::ABORT);
    let message = conclude(&running.wait(), Outcome::Crashed, FailureKind::Crashed);
    assert!(message.contains("SIGABRT"), "{message}");
}

#[test]
fn past_its_deadline() {
    let ended = Run::manifest(&slow_then_sound("deadline = \"500ms\"")).slowly().run();
    let message = conclude(&ended, Outcome::DeadlineExceeded, FailureKind::Deadline);
    assert!(message.contains("500 ms"), "{message}");
}

#[test]
fn stalling() {
    let mut running = Run::manifest(&slow_then_sound("stall = \"1s\"")).slowly().spawn();
    let worker = in_the_middle(&mut running);
    send(worker, Signal::STOP);
    let message = conclude(&running.wait(), Outcome::DeadlineExceeded, FailureKind::Stalled);
    assert!(message.contains("no progress for 1 s"), "{message}");
    assert!(!is_alive(worker), "a stopped worker cannot be asked, and is killed");
}

#[test]
fn out_of_memory_under_a_limit() {
    // 270 million weights in q8_0 need 290 MB; the limit is on address space, of which the
    // program and its thread's stacks take a part
    let limited = Script::new("#!/bin/sh\nulimit -v 262144\nexec \"$WORKER\"");
    let run = Run::manifest(&entry("slow", random_model(), "q8_0", ""));
    let ended = run.env("MODELGATE_WORKER", limited.path()).env("WORKER", worker_binary()).run();
    let message = ended.fails_only("slow", Check::Load, Status::Blocked);
    let failure = ended.model("slow").measurement.failure.as_ref().expect("a failure");
    assert_eq!(failure.kind, FailureKind::HostMemory, "{message}");
}

#[test]
fn printing_to_its_standard_output() {
    let noisy = Script::new(
        "#!/bin/sh\necho '{\"event\": \"done\"}'; echo nonsense; echo more >&2\nexec \"$WORKER\"",
    );
    let run = Run::manifest(&entry("sound", &fixture("tiny/llama"), "q8_0", ""));
    let ended = run.env("MODELGATE_WORKER", noisy.path()).env("WORKER", worker_binary()).run();
    assert_eq!(ended.code, Some(0), "{}", ended.all());
    ended.passes("sound");
    assert!(!ended.stdout.contains("nonsense"), "standard output is the test runner's");
    assert!(ended.model("sound").measurement.worker_stderr.contains("nonsense"), "but it is kept");
}

#[test]
fn ending_without_a_word() {
    for (body, says) in [("exit 7", "exit code 7"), ("exit 0", "exit code 0")] {
        let silent = Script::new(&format!("#!/bin/sh\n{body}"));
        let run = Run::manifest(&entry("a", &fixture("tiny/llama"), "q8_0", ""));
        let ended = run.env("MODELGATE_WORKER", silent.path()).run();
        let message = ended.fails_only("a", Check::Load, Status::Blocked);
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn talking_nonsense() {
    let rows = [
        ("echo nonsense >&3", "a line that is no event"),
        ("echo '{\"event\": \"loaded\"}' >&3", "first event is no hello"),
        (
            "echo '{\"event\": \"hello\", \"protocol\": 99, \"engine\": {\"name\": \"x\", \
             \"version\": \"1\", \"build\": \"b\", \"compute_capability\": null}}' >&3",
            "speaks protocol 99",
        ),
    ];
    for (body, says) in rows {
        let program = Script::new(&format!("#!/bin/sh\n{body}\nsleep 60"));
        let run = Run::manifest(&entry("a", &fixture("tiny/llama"), "q8_0", ""));
        let ended = run.env("MODELGATE_WORKER", program.path()).run();
        let message = ended.fails_only("a", Check::Load, Status::Blocked);
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn not_there() {
    for worker in ["/no/such/worker", "/etc/hostname"] {
        let run = Run::manifest(&entry("a", &fixture("tiny/llama"), "q8_0", ""));
        let ended = run.env("MODELGATE_WORKER", worker).run();
        let message = ended.fails_only("a", Check::Load, Status::Blocked);
        assert!(message.contains(worker), "{message}");
    }
}

#[test]
fn what_a_wrapper_has_started_does_not_outlive_it() {
    let wrapper = Script::new("#!/bin/sh\nsleep 47\ntrue");
    let run = Run::manifest(&entry("a", &fixture("tiny/llama"), "q8_0", "deadline = \"1s\""));
    let mut running = run.env("MODELGATE_WORKER", wrapper.path()).spawn();
    let shell = running.worker();
    std::thread::sleep(Duration::from_millis(300));
    let sleeper = *children(shell).first().expect("the shell's child");
    running.wait().fails_only("a", Check::Load, Status::Blocked);
    assert!(!is_alive(shell) && !is_alive(sleeper));
}

#[test]
fn a_request_longer_than_a_pipe_reaches_a_slow_reader() {
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
    let message = ended.fails_only("a", Check::Load, Status::Blocked);
    assert!(message.contains("exit code 5"), "{message}");
    let length: usize =
        ended.model("a").measurement.worker_stderr.trim().parse().expect("the request's length");
    assert!(length > 260_000, "{length}");
}

#[test]
fn a_worker_without_a_library_says_which_one_and_where_it_comes_from() {
    let program = Script::new(
        "#!/bin/sh\necho \"$0: error while loading shared libraries: libcublas.so.13: cannot open \
         shared object file: No such file or directory\" >&2\nexit 127",
    );
    let run = Run::manifest(&entry("a", &fixture("tiny/llama"), "q8_0", ""));
    let ended = run.env("MODELGATE_WORKER", program.path()).run();
    let message = ended.fails_only("a", Check::Load, Status::Blocked);
    assert!(message.contains("does not find libcublas.so.13"), "{message}");
    let hint = ended.verdict("a", Check::Load).hint.clone().unwrap_or_default();
    assert!(hint.contains("CUDA toolkit"), "{hint}");
}

//! Tests with a worker in another language, `tests/workers/scripted_worker.py`: the harness does not depend
//! on the engine, and it verifies the values that a worker reports.

use crate::common::{FinishedRun, Run, fixture};
use modelgate_harness::check::{Check, Status};
use modelgate_harness::measurement::Outcome;
use modelgate_protocol::FailureKind;
use modelgate_testkit::workers::{scripted_worker, scripted_worker_with};

const MODEL: &str = "expect.ram = { max = \"1GB\" }\n\
                     generation = { prompt = \"Anything?\", expect = [\"Paris\"] }\n";

fn entry(quantization: &str, more: &str) -> String {
    format!(
        "[[model]]\nid = \"made-up\"\npath = \"{}\"\nquantization = \"{quantization}\"\n{MODEL}{more}",
        fixture("tiny/llama").display()
    )
}

/// Runs a copy of the scripted worker in whose source `from` is replaced by `to`.
fn run_changed(from: &str, to: &str) -> FinishedRun {
    let program = scripted_worker_with(&[(from, to)]);
    Run::manifest(&entry("q8_0", "")).env("MODELGATE_WORKER", program.path()).run()
}

#[test]
fn values_of_a_foreign_worker_are_judged() {
    let ended = Run::manifest(&entry("q8_0", "")).env("MODELGATE_WORKER", scripted_worker()).run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    ended.assert_passes("made-up");
    let measurement = &ended.model("made-up").measurement;
    assert_eq!(measurement.engine.as_ref().map(|e| e.name.as_str()), Some("made-up"));
    let perplexity = measurement.perplexity.as_ref().and_then(|p| p.value);
    assert_eq!(perplexity.map(|value| value.get()), Some(7.5));
    assert!(measurement.memory.host.is_some(), "the harness measures the memory of the worker");

    let ended = Run::manifest(&entry("q4_k", "")).env("MODELGATE_WORKER", scripted_worker()).run();
    let message = ended.assert_only_fails("made-up", Check::Quantization, Status::Passed);
    assert!(message.contains("resident in q8_0, expected q4_k"), "{message}");
}

#[test]
fn an_invalid_tensor_inventory_fails_load() {
    let cases = [
        ("    yield \"model.norm\", [hidden]\n", "", "model.norm.weight"),
        ("\"model.norm\", [hidden]", "\"lm_head\", [vocabulary, hidden]", "is duplicated"),
        ("device=\"cpu\", nmse", "device=\"cuda:0\", nmse", "is on cuda:0, expected on cpu"),
        ("emit(\"loaded\")", "emit(\"loaded\")\nemit(\"loaded\")", "followed `loaded`"),
    ];
    for (from, to, message_part) in cases {
        let ended = run_changed(from, to);
        assert_eq!(ended.code, Some(101), "{}", ended.output());
        let message = ended.verdict("made-up", Check::Load).message.clone().unwrap_or_default();
        assert!(message.contains(message_part), "expected {message_part:?} in {message}");
    }
}

#[test]
fn implausible_quantization_errors_and_perplexity_texts_fail() {
    let ended = run_changed("nmse=None if norm else 1e-6", "nmse=0.5 if norm else 1e-6");
    ended.assert_only_fails("made-up", Check::Quantization, Status::Passed);
    let ended = run_changed("nmse=None if norm else 1e-6", "nmse=None");
    ended.assert_only_fails("made-up", Check::Quantization, Status::Passed);
    let ended = run_changed("tokens=1000, value", "tokens=1, value");
    let message = ended.assert_only_fails("made-up", Check::Generation, Status::Passed);
    assert!(message.contains("covers 1 tokens"), "{message}");
}

#[test]
fn expected_device_memory_without_a_measurement_fails() {
    let manifest = entry("q8_0", "expect.vram = { max = \"12GB\" }\n");
    let ended = Run::manifest(&manifest).env("MODELGATE_WORKER", scripted_worker()).run();
    let message = ended.assert_only_fails("made-up", Check::MemoryRange, Status::Passed);
    assert!(message.contains("was not measured"), "{message}");
}

#[test]
fn a_crash_after_the_last_event_is_reported() {
    let ended = run_changed("sys.stdin.read()  #", "os.abort()  #");
    ended.assert_only_fails("made-up", Check::MemoryRange, Status::Passed);
    let measurement = &ended.model("made-up").measurement;
    assert_eq!(measurement.outcome, Outcome::Crashed);
    assert_eq!(measurement.failure.as_ref().map(|f| f.kind), Some(FailureKind::Crashed));
}

#[test]
fn extreme_numbers_do_not_crash_the_harness() {
    let ended = run_changed("busy_s=0.001", "busy_s=1e300");
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    let ended = run_changed("bytes=4 * size if norm", "bytes=2**64 - 1 if norm");
    ended.assert_only_fails("made-up", Check::Quantization, Status::Passed);
}

//! A worker in another language, `tests/workers/made_up.py`: the protocol is real, the harness
//! assumes nothing of candle, and it does not take a worker's word for what it can check.

use crate::common::{Ended, Run, fixture};
use modelgate_harness::check::{Check, Status};
use modelgate_harness::measurement::Outcome;
use modelgate_protocol::FailureKind;
use modelgate_testkit::workers::{made_up, made_up_with};

const MODEL: &str = "expect.ram = { max = \"1GB\" }\n\
                     generation = { prompt = \"Anything?\", expect = [\"Paris\"] }\n";

fn entry(quantization: &str, more: &str) -> String {
    format!(
        "[[model]]\nid = \"made-up\"\npath = \"{}\"\nquantization = \"{quantization}\"\n{MODEL}{more}",
        fixture("tiny/llama").display()
    )
}

/// Runs the worker with `from` replaced by `to` in its source.
fn changed(from: &str, to: &str, more: &str) -> Ended {
    let program = made_up_with(&[(from, to)]);
    Run::manifest(&entry("q8_0", more)).env("MODELGATE_WORKER", program.path()).run()
}

#[test]
fn what_it_reports_is_what_is_judged() {
    let ended = Run::manifest(&entry("q8_0", "")).env("MODELGATE_WORKER", made_up()).run();
    assert_eq!(ended.code, Some(0), "{}", ended.all());
    ended.passes("made-up");
    let measurement = &ended.model("made-up").measurement;
    assert_eq!(measurement.engine.as_ref().map(|e| e.name.as_str()), Some("made-up"));
    let perplexity = measurement.perplexity.as_ref().and_then(|p| p.value);
    assert_eq!(perplexity.map(|value| value.get()), Some(7.5));
    assert!(measurement.memory.host.is_some(), "its memory is measured from outside");

    let ended = Run::manifest(&entry("q4_k", "")).env("MODELGATE_WORKER", made_up()).run();
    let message = ended.fails_only("made-up", Check::Quantization, Status::Passed);
    assert!(message.contains("resident in q8_0, expected q4_k"), "{message}");
}

#[test]
fn an_inventory_that_is_not_the_architecture_s_fails_load() {
    let rows = [
        ("    yield \"model.norm\", [hidden]\n", "", "model.norm.weight"),
        ("\"model.norm\", [hidden]", "\"lm_head\", [vocabulary, hidden]", "is duplicated"),
        ("device=\"cpu\", nmse", "device=\"cuda:0\", nmse", "is on cuda:0, expected on cpu"),
        ("tell(\"loaded\")", "tell(\"loaded\")\ntell(\"loaded\")", "came after `loaded`"),
    ];
    for (from, to, says) in rows {
        let ended = changed(from, to, "");
        assert_eq!(ended.code, Some(101), "{}", ended.all());
        let message = ended.verdict("made-up", Check::Load).message.clone().unwrap_or_default();
        assert!(message.contains(says), "expected {says:?} in {message}");
    }
}

#[test]
fn errors_and_texts_that_are_not_believable_fail() {
    let ended = changed("nmse=None if norm else 1e-6", "nmse=0.5 if norm else 1e-6", "");
    ended.fails_only("made-up", Check::Quantization, Status::Passed);
    let ended = changed("nmse=None if norm else 1e-6", "nmse=None", "");
    ended.fails_only("made-up", Check::Quantization, Status::Passed);
    let ended = changed("tokens=1000, value", "tokens=1, value", "");
    let message = ended.fails_only("made-up", Check::Generation, Status::Passed);
    assert!(message.contains("of 1 tokens"), "{message}");
}

#[test]
fn expected_device_memory_that_nobody_measured_is_no_pass() {
    let ended = changed("tell(\"done\")", "tell(\"done\")", "expect.vram = { max = \"12GB\" }\n");
    let message = ended.fails_only("made-up", Check::MemoryRange, Status::Passed);
    assert!(message.contains("was not measured"), "{message}");
}

#[test]
fn a_crash_after_the_last_word_is_a_crash() {
    let ended = changed("sys.stdin.read()  #", "os.abort()  #", "");
    ended.fails_only("made-up", Check::MemoryRange, Status::Passed);
    let measurement = &ended.model("made-up").measurement;
    assert_eq!(measurement.outcome, Outcome::Crashed);
    assert_eq!(measurement.failure.as_ref().map(|f| f.kind), Some(FailureKind::Crashed));
}

#[test]
fn figures_beyond_all_bounds_do_not_end_the_harness() {
    let ended = changed("busy_s=0.001", "busy_s=1e300", "");
    assert_eq!(ended.code, Some(0), "{}", ended.all());
    let ended = changed("bytes=4 * size if norm", "bytes=2**64 - 1 if norm", "");
    ended.fails_only("made-up", Check::Quantization, Status::Passed);
}

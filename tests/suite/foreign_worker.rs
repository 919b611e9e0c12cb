//! A worker in another language, `tests/workers/made_up.py`: the protocol is real, and the harness
//! assumes nothing of candle.

use crate::support::{Run, fixture};
use modelgate::check::{Check, Status};
use std::path::Path;

#[test]
fn what_it_reports_is_what_is_judged() {
    let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers/made_up.py");
    let models = format!(
        "[[model]]\nid = \"made-up\"\npath = \"{}\"\nquantization = \"q8_0\"\n\
         expect.ram = {{ max = \"1GB\" }}\n\
         generation = {{ prompt = \"Anything?\", expect = [\"Paris\"] }}\n",
        fixture("tiny/llama").display()
    );
    let ended = Run::manifest(&models).env("MODELGATE_WORKER", &worker).run();
    assert_eq!(ended.code, Some(0), "{}", ended.all());
    ended.passes("made-up");
    let model = ended.model("made-up");
    assert_eq!(model.measurement.engine.as_ref().map(|e| e.name.as_str()), Some("made-up"));
    assert_eq!(
        model.measurement.perplexity.as_ref().and_then(|p| p.value).map(|v| v.get()),
        Some(7.5)
    );
    assert!(model.measurement.memory.host.is_some(), "its memory is measured from outside");

    let wrong = models.replace("q8_0", "q4_k");
    let ended = Run::manifest(&wrong).env("MODELGATE_WORKER", &worker).run();
    let message = ended.fails_only("made-up", Check::Quantization, Status::Passed);
    assert!(message.contains("resident in q8_0, expected q4_k"), "{message}");
}

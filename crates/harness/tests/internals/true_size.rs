//! Tests of models at full size, with a scripted worker that allocates nothing, on hosts with a
//! simulated amount of memory.

use crate::support::settings;
use modelgate_harness::check::Status;
use modelgate_harness::host::Host;
use modelgate_harness::manifest::Manifest;
use modelgate_harness::measurement::{Measurement, Outcome};
use modelgate_harness::nvidia::{NvmlReadings, Readings};
use modelgate_harness::plan::{ModelJob, Plan};
use modelgate_harness::run::{RunContext, measure};
use modelgate_harness::signal::Interrupt;
use modelgate_harness::workers::Workers;
use modelgate_protocol::{FailureKind, Stage};
use modelgate_testkit::workers::scripted_worker;
use std::sync::Arc;
use tempfile::TempDir;

const GB: u64 = 1_000_000_000;

/// Measures the model of `job` with the scripted worker, on a host with `ram_bytes` of memory.
fn measure_with_ram(ram_bytes: u64, job: &ModelJob) -> Measurement {
    let settings = settings(&scripted_worker());
    let readings: Arc<dyn Readings> = Arc::new(NvmlReadings::open());
    let scratch = TempDir::new().expect("a folder");
    let context = RunContext {
        settings: &settings,
        host: &Host { ram_bytes, max_ram_bytes: None, ..Host::inspect() },
        workers: &Workers::existing(&settings.worker),
        readings: &readings,
        scratch: scratch.path(),
        interrupt: &Interrupt::default(),
    };
    measure(job, &context)
}

#[test]
fn a_synthetic_model_of_a_known_repository_is_loaded_at_full_size_without_a_download() {
    let models = "[[model]]\nid = \"llama\"\nrepo = \"meta-llama/Llama-3.1-70B-Instruct\"\n\
                  quantization = \"q8_0\"\ndevice = \"cpu\"\nsynthetic = true\n\
                  expect.ram = { max = \"90GB\" }\n";
    let manifest = Manifest::parse(&format!("schema = 1\n{models}"), "m.toml", None)
        .expect("a valid manifest");
    let variant = manifest.models.last().expect("the variant");
    assert_eq!(variant.id, "llama@synthetic");
    let job = ModelJob::plan(variant, &manifest);
    let measurement = measure_with_ram(100 * GB, &job);
    assert_eq!(measurement.outcome, Outcome::Measured, "{:?}", measurement.failure);
    let plan = Plan::of(&manifest);
    let cases = plan.cases.iter().filter(|case| manifest.models[case.model].id == variant.id);
    for case in cases {
        let verdict = case.check.verdict(&measurement, &job.expectation);
        assert_eq!(verdict.status, Status::Passed, "{}: {verdict:?}", case.name);
    }
    assert_eq!(measurement.parameters, Some(70_553_706_496));
    assert_eq!((measurement.downloaded_bytes, measurement.commit.as_deref()), (0, None));
    let prompt = &measurement.generations[0].prompt_tokens;
    assert!(
        prompt.iter().any(|id| *id > 100_000),
        "the prompt uses the complete vocabulary of 128,256 tokens"
    );
}

#[test]
fn a_known_model_larger_than_the_host_memory_is_refused_before_a_worker_starts() {
    let models = "schema = 1\n[[model]]\nid = \"llama\"\nrepo = \"meta-llama/Llama-3.1-70B-Instruct\"\n\
                  quantization = \"q8_0\"\ndevice = \"cpu\"\n";
    let manifest = Manifest::parse(models, "m.toml", None).expect("a valid manifest");
    let measurement = measure_with_ram(70 * GB, &ModelJob::plan(&manifest.models[0], &manifest));
    let failure = measurement.failure.expect("a failure");
    assert_eq!((failure.stage, failure.kind), (Stage::Prepare, FailureKind::HostMemory));
    assert!(failure.message.contains("75.0 GB of weights in q8_0"), "{failure}");
    assert_eq!(
        (measurement.worker_exit, measurement.acquire_s),
        (None, None),
        "the model is refused before the download and the start of a worker"
    );
}

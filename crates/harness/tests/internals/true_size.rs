//! Models of true size by a scripted worker, on hosts of more and of less memory than this one.

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
use modelgate_testkit::workers::made_up;
use std::sync::Arc;
use tempfile::TempDir;

const GB: u64 = 1_000_000_000;

/// The model of `job` by the made-up worker on a host of so many bytes of memory.
fn made_up_on(ram_bytes: u64, job: &ModelJob) -> Measurement {
    let settings = settings(&made_up());
    let readings: Arc<dyn Readings> = Arc::new(NvmlReadings::open());
    let scratch = TempDir::new().expect("a folder");
    let context = RunContext {
        settings: &settings,
        host: &Host { ram_bytes, ..Host::inspect() },
        workers: &Workers::at_hand(&settings.worker),
        readings: &readings,
        scratch: scratch.path(),
        interrupt: &Interrupt::default(),
    };
    measure(job, &context)
}

#[test]
fn a_known_repository_is_loaded_at_true_size_without_a_download() {
    let models = "[[model]]\nid = \"llama\"\nrepo = \"meta-llama/Llama-3.1-70B-Instruct\"\n\
                  quantization = \"q8_0\"\ndevice = \"cpu\"\nsynthetic = true\n\
                  expect.ram = { max = \"90GB\" }\n";
    let manifest =
        Manifest::parse(&format!("schema = 1\n{models}"), "m.toml", None).expect("sound");
    let variant = manifest.models.last().expect("the variant");
    assert_eq!(variant.id, "llama@synthetic");
    let job = ModelJob::plan(variant, &manifest);
    let seen = made_up_on(100 * GB, &job);
    assert_eq!(seen.outcome, Outcome::Measured, "{:?}", seen.failure);
    let plan = Plan::of(&manifest);
    let cases = plan.cases.iter().filter(|case| manifest.models[case.model].id == variant.id);
    for case in cases {
        let verdict = case.check.verdict(&seen, &job.expectation);
        assert_eq!(verdict.status, Status::Passed, "{}: {verdict:?}", case.name);
    }
    assert_eq!(seen.parameters, Some(70_553_706_496));
    assert_eq!((seen.downloaded_bytes, seen.commit.as_deref()), (0, None));
    let prompt = &seen.generations[0].prompt_tokens;
    assert!(prompt.iter().any(|id| *id > 100_000), "the whole vocabulary of 128,256 is used");
}

#[test]
fn a_known_repository_that_the_host_cannot_hold_is_refused_before_a_worker_starts() {
    let models = "schema = 1\n[[model]]\nid = \"llama\"\nrepo = \"meta-llama/Llama-3.1-70B-Instruct\"\n\
                  quantization = \"q8_0\"\ndevice = \"cpu\"\n";
    let manifest = Manifest::parse(models, "m.toml", None).expect("sound");
    let seen = made_up_on(70 * GB, &ModelJob::plan(&manifest.models[0], &manifest));
    let failure = seen.failure.expect("a failure");
    assert_eq!((failure.stage, failure.kind), (Stage::Prepare, FailureKind::HostMemory));
    assert!(failure.message.contains("75.0 GB of weights in q8_0"), "{failure}");
    assert_eq!((seen.worker_exit, seen.acquire_s), (None, None), "and before a download");
}

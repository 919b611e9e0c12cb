//! Tests of the Markdown summary of a report.

use modelgate_harness::admission::Prediction;
use modelgate_harness::check::{Check, Status, Verdict};
use modelgate_harness::host::Host;
use modelgate_harness::measurement::{
    DeviceMemory, ForeignProcess, HostMemory, Measurement, Outcome, PeakSource, Phase,
};
use modelgate_harness::nvidia::{Gpu, UnreadableGpu};
use modelgate_harness::report::{ModelReport, Report, Run, RunState, summary};
use modelgate_harness::store::ModelIdentity;
use modelgate_protocol::{
    Activity, ActivityName, Agreement, Device, DeviceRecord, Evidence, FinishReason, Finite,
    Generation, PhaseName, Scheme,
};
use std::collections::BTreeMap;

#[test]
fn the_summary_of_a_synthetic_model_on_a_gpu_matches_the_snapshot() {
    insta::assert_snapshot!("summary_gpu", summary(&gpu_report()));
}

#[test]
fn a_model_with_random_weights_is_marked_as_synthetic_for_any_id() {
    let mut report = gpu_report();
    report.models[0].identity.id = "llama".into();
    let text = summary(&report);
    assert!(text.starts_with("1 of 1 models validated, 1 of them synthetic\n"), "{text}");
    assert!(
        text.contains("| llama (synthetic) |") && text.contains("## llama (synthetic)"),
        "{text}"
    );
    report.models[0].checks[0].status = Status::Failed;
    let text = summary(&report);
    assert!(text.starts_with("FAILED: llama (synthetic) (0 of 1 models validated)\n"), "{text}");
}

#[test]
fn the_summary_names_gpus_that_cannot_be_read_and_memory_of_the_host() {
    let mut report = gpu_report();
    report.host.gpus[0].unified_memory = true;
    report.host.unreadable_gpus = vec![UnreadableGpu {
        index: 1,
        ordinal: Some(1),
        name: None,
        uuid: None,
        bus_id: None,
        mig: false,
        error: "device fell off the bus".into(),
    }];
    let text = summary(&report);
    let expected = "128 GB, GPU (150 GB, the memory of the host), unusable GPU 1: device fell off \
                    the bus; no engine";
    assert!(text.contains(expected), "{text}");
}

fn finite(value: f64) -> Finite {
    Finite::new(value).expect("finite")
}

/// Returns a report on a synthetic model on a GPU, with invented round values.
pub(crate) fn gpu_report() -> Report {
    let planned = [Check::Load, Check::MemoryRange, Check::Generation, Check::Quantization];
    let passed = |check| Verdict { status: Status::Passed, ..Verdict::not_selected(check) };
    Report {
        schema_version: 1,
        run: Run {
            id: "RUN".into(),
            state: RunState::Finished,
            started_at: "STARTED".into(),
            finished_at: None,
            version: "VERSION".into(),
            profile: "release".into(),
            manifest_sha256: String::new(),
            filter: None,
            planned_checks: 4,
            finished_checks: 4,
            labels: BTreeMap::new(),
            engine: None,
        },
        host: Host {
            id: "ID".into(),
            hostname: "HOST".into(),
            os: "OS".into(),
            cpu: "CPU".into(),
            cores: 16,
            ram_bytes: 128_000_000_000,
            max_ram_bytes: None,
            memory_bytes_per_s: None,
            gpus: vec![Gpu {
                name: "GPU".into(),
                uuid: "GPU-1".into(),
                bus_id: "0".into(),
                vram_bytes: 150_000_000_000,
                unified_memory: false,
                driver: "580".into(),
                cuda: "13.0".into(),
                compute_capability: "9.0".into(),
                mig: false,
            }],
            unreadable_gpus: Vec::new(),
            no_gpu_reason: None,
        },
        ceilings: Vec::new(),
        models: vec![ModelReport {
            identity: ModelIdentity {
                id: "llama@synthetic".into(),
                repo: Some("owner/Llama".into()),
                path: None,
                revision: Some("main".into()),
                quantization: Scheme::Q4K,
                evidence: Evidence::Synthetic,
            },
            measurement: gpu_measurement(),
            checks: planned.into_iter().map(passed).collect(),
        }],
    }
}

/// Returns a measurement on a GPU with invented round values.
fn gpu_measurement() -> Measurement {
    let names = [
        PhaseName::Start,
        PhaseName::Device,
        PhaseName::Kernels,
        PhaseName::Load,
        PhaseName::Generate,
        PhaseName::Agreement,
        PhaseName::Unload,
    ];
    let phases = names.into_iter().enumerate().map(|(index, name)| Phase {
        name,
        start_s: finite(index as f64),
        end_s: finite(index as f64 + 1.0),
    });
    let activity = |name, bytes, busy_s, ceiling: Option<f64>| Activity {
        name,
        bytes,
        busy_s: finite(busy_s),
        ceiling_bytes_per_s: ceiling.map(finite),
    };
    let mut measurement = Measurement {
        outcome: Outcome::Measured,
        requested_devices: vec![Device::Cuda(0)],
        devices: vec![Device::Cuda(0)],
        phases: phases.collect(),
        activities: vec![
            activity(ActivityName::Other("make".into()), 40_000_000_000, 2.0, None),
            activity(ActivityName::Copy, 50_000_000_000, 1.0, Some(55e9)),
            activity(ActivityName::Decode, 120_000_000_000, 1.0, Some(4.8e12)),
        ],
        opened_devices: vec![DeviceRecord {
            device: Device::Cuda(0),
            uuid: "GPU-1".into(),
            name: "GPU".into(),
            compute_capability: "9.0".into(),
            total: 150_000_000_000,
            baseline: 601_000_000,
            kernels_cached: Some(false),
        }],
        load_s: Some(finite(3.0)),
        generations: vec![Generation {
            name: "fixed".into(),
            inputs: Vec::new(),
            prompt_tokens: vec![1; 512],
            tokens: vec![2; 64],
            text: String::new(),
            logprobs: vec![Some(finite(-1.0)); 64],
            non_finite_logits: 0,
            time_to_first_token_s: Some(finite(0.5)),
            decode_tokens_per_s: Some(finite(50.0)),
            finish_reason: FinishReason::Length,
            repeated_identically: true,
        }],
        agreement: Some(Agreement { layers: 2, tokens: 16, relative_error: Some(finite(0.0125)) }),
        ..Measurement::empty()
    };
    measurement.memory.devices = vec![DeviceMemory {
        device: Device::Cuda(0),
        uuid: "GPU-1".into(),
        before: 1_000_000,
        after_load: 41_000_000_000,
        peak_load: 41_000_000_000,
        peak: 41_410_000_000,
        peak_source: PeakSource::HighWaterMark,
        after_unload: Some(2_000_000),
        predicted_peak: Some(41_000_000_000),
        foreign_peak: 2_147_483_648,
        foreign_processes: vec![ForeignProcess {
            pid: 4711,
            name: Some("python3".into()),
            bytes: 2_147_483_648,
        }],
        per_process: true,
        attribution_problem: None,
        outside_allocator_gap_s: Some(finite(0.008)),
        samples: 700,
        longest_gap_s: Some(finite(0.012)),
    }];
    measurement.memory.host = Some(HostMemory {
        before: 20_000_000,
        after_load: Some(400_000_000),
        peak_private: 450_000_000,
        peak_source: PeakSource::Samples,
        peak_rss: 900_000_000,
        predicted_peak: Some(500_000_000),
        cgroup_peak: None,
        samples: 700,
        longest_gap_s: finite(0.012),
    });
    measurement.memory.prediction = Some(Prediction {
        weights: 39_700_000_000,
        kv_cache: 700_000_000,
        activations: 100_000_000,
        baseline: 600_000_000,
        device_baseline: Some(500_000_000),
        host_peak: 500_000_000,
        device_peak: 41_000_000_000,
        thread_buffers: Some(96_000_000),
        disk: 141_000_000_000,
    });
    measurement
}

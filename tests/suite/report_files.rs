//! The report's files: where they go, what becomes of a run that cannot write them, and how the
//! summary reads.

use crate::support::{Run, entry, fixture, json_reports, read_valid};
use modelgate::check::{Check, Status, Verdict};
use modelgate::gpu::Gpu;
use modelgate::host::Host;
use modelgate::report::{ModelReport, Report, Run as ReportedRun, RunState, summary};
use modelgate_protocol::{
    Activity, Agreement, DeviceMemory, DeviceSeen, Evidence, FinishReason, Finite, ForeignProcess,
    Generation, HostMemory, Measurement, Outcome, PeakSource, Phase, Prediction, Scheme,
};
use std::collections::BTreeMap;

#[test]
fn a_folder_that_cannot_be_written_is_named_and_the_verdicts_still_print() {
    // a file where a folder should be fails for every user, root included
    let run = Run::manifest(&entry("tiny", &fixture("tiny/llama"), "q8_0", ""));
    let file = run.folder.path().join("occupied");
    std::fs::write(&file, "").expect("a file");
    let target = file.join("reports");
    let ended = run.env("MODELGATE_REPORT_DIR", &target).run();
    assert_eq!(ended.code, Some(101), "{}", ended.all());
    assert!(ended.stdout.contains("5 passed; 0 failed"), "{}", ended.stdout);
    assert!(ended.stderr.contains(&target.display().to_string()), "{}", ended.stderr);
}

#[test]
fn no_space_for_the_report_is_named_and_the_verdicts_still_print() {
    // a limit on a file's size, as a disk with room for 16 KiB: the report and the measurement are
    // larger
    let run = Run::manifest(&entry("tiny", &fixture("tiny/llama"), "q8_0", ""));
    let reports = run.folder.path().join("reports");
    let ended = run.under_shell("trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"").run();
    assert_eq!(ended.code, Some(101), "{}", ended.all());
    assert!(ended.stdout.contains("5 passed; 0 failed"), "{}", ended.all());
    assert!(ended.stderr.contains(&reports.display().to_string()), "{}", ended.stderr);
    // what was written before the model still stands, whole, and claims no more than it knew
    let report = ended.report.as_ref().expect("the report of the run's begin");
    assert_eq!(report.run.state, RunState::Running);
    let summary = ended.summary.as_deref().expect("a summary");
    assert!(summary.starts_with("INCOMPLETE: tiny"), "{summary}");
    let entries = std::fs::read_dir(&reports).expect("the folder").count();
    assert_eq!(entries, 2, "no temporary file is left");
}

#[test]
fn two_reports_of_one_second_do_not_overwrite_each_other() {
    let run = Run::manifest(&entry("tiny", &fixture("tiny/llama"), "q8_0", ""));
    let folder = run.folder.path().join("shared");
    let first = run.env("MODELGATE_REPORT_DIR", &folder).spawn();
    let second = Run::manifest(&entry("tiny", &fixture("tiny/llama"), "q8_0", ""))
        .env("MODELGATE_REPORT_DIR", &folder)
        .spawn();
    let third = Run::manifest(&entry("tiny", &fixture("tiny/llama"), "q8_0", ""))
        .env("MODELGATE_REPORT_DIR", &folder)
        .spawn();
    let ended = [first.wait(), second.wait(), third.wait()];
    assert!(ended.iter().all(|ended| ended.code == Some(0)));
    let reports = json_reports(&folder);
    assert_eq!(reports.len(), 3, "{reports:?}");
    for report in reports {
        assert_eq!(read_valid(&report).models.len(), 1);
    }
}

#[test]
fn the_summary_reads_so() {
    let ended = Run::manifest(&entry("tiny", &fixture("tiny/llama"), "q4_k", "")).run();
    let mut report = ended.report.expect("a report");
    steady(&mut report);
    insta::assert_snapshot!("summary", summary(&report));
}

#[test]
fn the_summary_of_a_synthetic_model_on_a_gpu_reads_so() {
    insta::assert_snapshot!("summary_gpu", summary(&on_a_gpu()));
}

#[test]
fn a_model_of_random_weights_says_so_whatever_its_id_is() {
    let mut report = on_a_gpu();
    report.models[0].id = "llama".into();
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

fn finite(value: f64) -> Finite {
    Finite::new(value).expect("finite")
}

/// A report made up of round figures.
fn on_a_gpu() -> Report {
    let planned = [Check::Load, Check::MemoryRange, Check::Generation, Check::Quantization];
    let passed = |check| Verdict { status: Status::Passed, ..Verdict::not_selected(check) };
    Report {
        schema_version: 1,
        run: ReportedRun {
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
            gpus: vec![Gpu {
                name: "GPU".into(),
                uuid: "GPU-1".into(),
                bus_id: "0".into(),
                vram_bytes: 150_000_000_000,
                driver: "580".into(),
                cuda: "13.0".into(),
                compute_capability: "9.0".into(),
                mig: false,
            }],
            no_gpu_reason: None,
        },
        ceilings: Vec::new(),
        models: vec![ModelReport {
            id: "llama@synthetic".into(),
            repo: Some("owner/Llama".into()),
            path: None,
            revision: Some("main".into()),
            quantization: Scheme::Q4K,
            evidence: Evidence::Synthetic,
            measurement: seen_on_a_gpu(),
            checks: planned.into_iter().map(passed).collect(),
        }],
    }
}

fn seen_on_a_gpu() -> Measurement {
    let names = ["start", "device", "kernels", "load", "generate", "agreement", "unload"];
    let phases = names.iter().enumerate().map(|(index, name)| Phase {
        name: (*name).into(),
        start_s: finite(index as f64),
        end_s: finite(index as f64 + 1.0),
    });
    let activity = |name: &str, bytes, busy_s, ceiling: Option<f64>| Activity {
        name: name.into(),
        bytes,
        busy_s: finite(busy_s),
        ceiling_bytes_per_s: ceiling.map(finite),
    };
    let mut seen = Measurement {
        outcome: Outcome::Measured,
        requested_devices: vec!["cuda:0".into()],
        devices: vec!["cuda:0".into()],
        phases: phases.collect(),
        activities: vec![
            activity("make", 40_000_000_000, 2.0, None),
            activity("copy", 50_000_000_000, 1.0, Some(55e9)),
            activity("decode", 120_000_000_000, 1.0, Some(4.8e12)),
        ],
        devices_seen: vec![DeviceSeen {
            device: "cuda:0".into(),
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
            nonfinite_logits: 0,
            time_to_first_token_s: Some(finite(0.5)),
            decode_tokens_per_s: Some(finite(50.0)),
            finish_reason: FinishReason::Length,
            repeated_identically: true,
        }],
        agreement: Some(Agreement { layers: 2, tokens: 16, relative_error: Some(finite(0.0125)) }),
        ..Measurement::empty()
    };
    seen.memory.devices = vec![DeviceMemory {
        device: "cuda:0".into(),
        uuid: "GPU-1".into(),
        before: 1_000_000,
        after_load: 41_000_000_000,
        peak_load: 41_000_000_000,
        peak: 41_410_000_000,
        peak_source: PeakSource::Pool,
        after_unload: Some(2_000_000),
        predicted_peak: Some(41_000_000_000),
        foreign_peak: 2_147_483_648,
        foreign: vec![ForeignProcess {
            pid: 4711,
            name: Some("python3".into()),
            bytes: 2_147_483_648,
        }],
        per_process: true,
        mixed: None,
        outside_gap_s: Some(finite(0.008)),
        samples: 700,
        longest_gap_s: Some(finite(0.012)),
    }];
    seen.memory.host = Some(HostMemory {
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
    seen.memory.prediction = Some(Prediction {
        weights: 39_700_000_000,
        kv_cache: 700_000_000,
        activations: 100_000_000,
        baseline: 600_000_000,
        device_baseline: Some(500_000_000),
        host_peak: 500_000_000,
        device_peak: 41_000_000_000,
        disk: 141_000_000_000,
    });
    seen
}

/// Replaces all that differs from host to host and run to run.
fn steady(report: &mut Report) {
    let mut value = serde_json::to_value(&report).expect("a report is JSON");
    value["run"]["id"] = "RUN".into();
    value["run"]["started_at"] = "STARTED".into();
    value["run"]["version"] = "VERSION".into();
    value["run"]["profile"] = "PROFILE".into();
    value["run"]["engine"]["version"] = "VERSION".into();
    value["run"]["engine"]["build"] = "BUILD".into();
    value["host"] = serde_json::json!({
        "id": "ID", "hostname": "HOST", "os": "OS", "cpu": "CPU", "cores": 2,
        "ram_bytes": 24_000_000_000u64, "gpus": [], "no_gpu_reason": "none"
    });
    let model = &mut value["models"][0];
    model["path"] = "MODEL".into();
    for file in model["files"].as_array_mut().expect("files") {
        file["page_cache_fraction"] = 1.into();
    }
    for (index, phase) in model["phases"].as_array_mut().expect("phases").iter_mut().enumerate() {
        phase["start_s"] = index.into();
        phase["end_s"] = (index + 1).into();
    }
    for activity in model["activities"].as_array_mut().expect("activities") {
        activity["busy_s"] = 0.5.into();
        if !activity["ceiling_bytes_per_s"].is_null() {
            activity["ceiling_bytes_per_s"] = 2e9.into();
        }
    }
    model["load_s"] = 2.into();
    for key in ["before", "after_load", "peak_private", "peak_rss"] {
        model["memory"]["host"][key] = 50_000_000.into();
    }
    for generation in model["generations"].as_array_mut().expect("generations") {
        generation["time_to_first_token_s"] = 0.01.into();
        generation["decode_tokens_per_s"] = 100.into();
    }
    // its last digits depend on the processor's kernels
    model["perplexity"]["value"] = 2.5.into();
    for verdict in model["checks"].as_array_mut().expect("checks") {
        if ["time_budget", "memory_range"].contains(&verdict["name"].as_str().expect("a name")) {
            verdict["observed"] = "OBSERVED".into();
        }
        let observed = verdict["observed"].as_str().expect("a text");
        if let Some((before, _)) = observed.split_once("perplexity ") {
            verdict["observed"] = format!("{before}perplexity 2.500").into();
        }
    }
    *report = serde_json::from_value(value).expect("it stays a report");
}

//! Tests of the report files: their folder, runs that cannot write them, and the text of the
//! summary.

use crate::common::{Run, entry, fixture, json_reports, read_report};
use modelgate_harness::report::{Report, RunState, summary};

#[test]
fn an_unwritable_report_folder_is_reported_after_the_verdicts() {
    // a file in the place of the folder is an error for every user, including root
    let run = Run::manifest(&entry("tiny", &fixture("tiny/llama"), "q8_0", ""));
    let file = run.folder.path().join("occupied");
    std::fs::write(&file, "").expect("a file");
    let target = file.join("reports");
    let ended = run.env("MODELGATE_REPORT_DIR", &target).run();
    assert_eq!(ended.code, Some(101), "{}", ended.output());
    assert!(ended.stdout.contains("5 passed; 0 failed"), "{}", ended.stdout);
    assert!(ended.stderr.contains(&target.display().to_string()), "{}", ended.stderr);
}

#[test]
fn a_full_disk_is_reported_after_the_verdicts() {
    // a limit of 16 KiB per file simulates a full disk: the report and the measurement are larger
    let run = Run::manifest(&entry("tiny", &fixture("tiny/llama"), "q8_0", ""));
    let reports = run.folder.path().join("reports");
    let ended = run.in_shell("trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"").run();
    assert_eq!(ended.code, Some(101), "{}", ended.output());
    assert!(ended.stdout.contains("5 passed; 0 failed"), "{}", ended.output());
    assert!(ended.stderr.contains(&reports.display().to_string()), "{}", ended.stderr);
    // the report from the start of the run is still complete, and contains no result
    let report = ended.report.as_ref().expect("the report from the start of the run");
    assert_eq!(report.run.state, RunState::Running);
    let summary = ended.summary.as_deref().expect("a summary");
    assert!(summary.starts_with("INCOMPLETE: tiny"), "{summary}");
    let entries = std::fs::read_dir(&reports).expect("the folder").count();
    assert_eq!(entries, 2, "no temporary file is left");
}

#[test]
fn reports_of_the_same_second_do_not_overwrite_each_other() {
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
        assert_eq!(read_report(&report).models.len(), 1);
    }
}

#[test]
fn the_summary_has_the_expected_text() {
    let ended = Run::manifest(&entry("tiny", &fixture("tiny/llama"), "q4_k", "")).run();
    let mut report = ended.report.expect("a report");
    replace_varying_values(&mut report);
    insta::assert_snapshot!("summary", summary(&report));
}

/// Replaces the values that differ from host to host and from run to run.
fn replace_varying_values(report: &mut Report) {
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
        // the ceiling of small files is known only if all of them were in the page cache
        if activity["name"] == "read" {
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
    // the last digits depend on the processor
    model["perplexity"]["value"] = 2.5.into();
    for verdict in model["checks"].as_array_mut().expect("checks") {
        if ["time_budget", "memory_range"].contains(&verdict["name"].as_str().expect("a name")) {
            verdict["observed"] = "OBSERVED".into();
        }
        // the derived maximum depends on the number of cores
        if verdict["name"] == "memory_range" {
            let expected = verdict["expected"].as_str().expect("a text");
            let (before, _) = expected.split_once(" to ").expect("a range");
            verdict["expected"] = format!("{before} to MAXIMUM").into();
        }
        let observed = verdict["observed"].as_str().expect("a text");
        if let Some((before, _)) = observed.split_once("perplexity ") {
            verdict["observed"] = format!("{before}perplexity 2.500").into();
        }
    }
    *report = serde_json::from_value(value).expect("a valid report");
}

//! Executes many runs with random faults. Each run must write a valid report, and must not leave a
//! process, a lock or a temporary file. The test takes minutes, so `cargo test` does not include
//! it:
//!
//!     cargo test --release --test suite_soak                  # 200 runs
//!     cargo test --release --test suite_soak -- 1000 7        # 1000 runs, with the seed 7

#[path = "../common/mod.rs"]
mod common;
mod run_sequence;

use common::fault::files_below;
use common::{json_reports, read_report};
use modelgate_testkit::random::Random;
use run_sequence::RunSequence;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The number of runs, unless the command line contains another number.
const DEFAULT_RUNS: u64 = 200;

fn main() {
    let number = |at| std::env::args().nth(at).and_then(|text| text.parse().ok());
    let (runs, seed) = (number(1).unwrap_or(DEFAULT_RUNS), number(2).unwrap_or(1));
    // the folder identifies the processes and files of these runs
    let folder = tempfile::TempDir::new().expect("a folder");
    let sequence = RunSequence::in_folder(folder.path());
    let mut random = Random::new(seed);
    let mut codes: BTreeMap<i32, u64> = BTreeMap::new();
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    for run in 0..runs {
        let (name, code) = sequence.run(&mut random);
        *codes.entry(code).or_default() += 1;
        *faults.entry(name).or_default() += 1;
        let leftovers = leftovers(folder.path());
        assert!(leftovers.is_empty(), "after run {run} ({name}, seed {seed}): {leftovers:#?}");
        let reports = json_reports(&sequence.reports());
        assert_eq!(reports.len() as u64, run + 1, "after run {run} ({name}, seed {seed})");
        read_report(reports.last().expect("a report"));
    }
    println!("{runs} runs, seed {seed}, {} faults; exit codes {codes:?}", faults.len());
    assert!(codes.len() > 1, "some runs pass and some do not");
}

/// Returns the processes that use `folder`, and the locks and temporary files in it.
fn leftovers(folder: &Path) -> Vec<String> {
    let mut leftovers = processes(folder);
    let is_leftover = |path: &PathBuf| {
        let text = path.to_string_lossy();
        let is_run = text.contains("/tmp/") && text.contains("/runs/");
        is_run || text.ends_with(".lock") || text.contains(".writing") || text.contains(".linking")
    };
    let files = files_below(folder);
    leftovers.extend(
        files.iter().filter(|path| is_leftover(path)).map(|path| path.display().to_string()),
    );
    leftovers
}

/// Returns the processes whose command line or environment contains the path of `folder`.
fn processes(folder: &Path) -> Vec<String> {
    let name = folder.as_os_str().as_encoded_bytes();
    let names = |path: PathBuf| {
        std::fs::read(path).is_ok_and(|text| text.windows(name.len()).any(|part| part == name))
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("processes").flatten() {
        let path = entry.path();
        let is_process = entry.file_name().to_string_lossy().parse::<u32>().is_ok();
        if is_process && (names(path.join("environ")) || names(path.join("cmdline"))) {
            let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
            found.push(format!("{}: {}", path.display(), String::from_utf8_lossy(&command)));
        }
    }
    found
}

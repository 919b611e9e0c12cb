//! Many runs with faults at random, and nothing left behind: no process, no lock, no temporary file,
//! and a valid report of each. Minutes, so it is no part of `cargo test`:
//!
//!     cargo test --release --test suite_soak                  # 200 runs
//!     cargo test --release --test suite_soak -- 1000 7        # so many, from this seed

#[path = "../common/mod.rs"]
mod common;
mod lasting;

use common::fault::files_below;
use common::{json_reports, read_valid};
use lasting::Lasting;
use modelgate_testkit::random::Random;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Runs where the command line says nothing.
const RUNS: u64 = 200;

fn main() {
    let number = |at| std::env::args().nth(at).and_then(|text| text.parse().ok());
    let (runs, seed) = (number(1).unwrap_or(RUNS), number(2).unwrap_or(1));
    // what the runs leave behind is told from what others have by this folder
    let folder = tempfile::TempDir::new().expect("a folder");
    let lasting = Lasting::in_folder(folder.path());
    let mut random = Random::new(seed);
    let mut codes: BTreeMap<i32, u64> = BTreeMap::new();
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    for run in 0..runs {
        let (name, code) = lasting.run(&mut random);
        *codes.entry(code).or_default() += 1;
        *faults.entry(name).or_default() += 1;
        let left = left(folder.path());
        assert!(left.is_empty(), "after run {run} ({name}, seed {seed}): {left:#?}");
        let reports = json_reports(&lasting.reports());
        assert_eq!(reports.len() as u64, run + 1, "after run {run} ({name}, seed {seed})");
        read_valid(reports.last().expect("a report"));
    }
    println!("{runs} runs, seed {seed}, {} faults; exit codes {codes:?}", faults.len());
    assert!(codes.len() > 1, "some runs pass and some do not");
}

/// Processes that know of `folder`, locks and temporary files in it.
fn left(folder: &Path) -> Vec<String> {
    let mut left = processes(folder);
    let is_left = |path: &PathBuf| {
        let text = path.to_string_lossy();
        let is_run = text.contains("/tmp/") && text.contains("/runs/");
        is_run || text.ends_with(".lock") || text.contains(".writing") || text.contains(".linking")
    };
    let files = files_below(folder);
    left.extend(files.iter().filter(|path| is_left(path)).map(|path| path.display().to_string()));
    left
}

/// Other processes whose command or environment names `folder`.
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

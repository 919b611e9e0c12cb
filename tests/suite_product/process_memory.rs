//! Tests that the measured host memory agrees with other interfaces of the kernel, for a load of
//! more than 500 MB of random weights.

use crate::common::{Run, random_model};
use modelgate_harness::measurement::Measurement;
use std::path::Path;
use std::time::Duration;

#[test]
fn private_and_resident_peaks_agree_with_the_kernel() {
    let folder = tempfile::TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("text.txt"), "A short text is enough here.").expect("a text");
    let models = format!(
        "[[model]]\nid = \"big\"\npath = \"{}\"\nquantization = \"none\"\ncontext = 256\n\
         expect.perplexity = {{ text = \"{}\" }}\n\
         generation = {{ prompt = \"What?\", max_tokens = 8, expect = [\"no answer\"] }}\n",
        random_model().display(),
        folder.path().join("text.txt").display()
    );
    let mut running = Run::manifest(&models).spawn();
    let worker = running.worker();
    // the memory of the same process, read from two other interfaces of the kernel
    let mut private = 0;
    let mut resident = 0;
    let mut arenas = 0;
    while let Some(rollup) = read(&format!("/proc/{worker}/smaps_rollup")) {
        private = private.max(sum(&rollup, &["Anonymous:", "Private_Hugetlb:", "Shared_Hugetlb:"]));
        if let Some(status) = read(&format!("/proc/{worker}/status")) {
            resident = resident.max(sum(&status, &["VmHWM:"]));
        }
        arenas = arenas.max(thread_arenas(&read_maps(worker)));
        std::thread::sleep(Duration::from_millis(2));
    }
    let ended = running.wait();
    let measurement: &Measurement = &ended.model("big").measurement;
    let host = measurement.memory.host.as_ref().expect("host memory");
    assert!(host.peak_private > 500_000_000, "{host:?}");
    assert_agree("private peak", host.peak_private, private);
    assert_agree("peak RSS", host.peak_rss, resident);
    assert!(host.samples > 20, "{host:?}");
    if cfg!(target_env = "gnu") {
        assert_eq!(arenas, 0, "freed memory stays in the arenas of threads");
    }
    let timeline = &measurement.memory.timeline;
    let highest = timeline.series["host_private"].iter().max().copied().unwrap_or(0);
    assert_agree("timeline", highest, host.peak_private);
    let predicted = host.predicted_peak.expect("a prediction");
    println!(
        "private peak {} (kernel {private}, predicted {predicted}), peak RSS {} (kernel {resident})",
        host.peak_private, host.peak_rss
    );
}

/// Asserts that two values differ by at most 2 %.
fn assert_agree(name: &str, measured: u64, expected: u64) {
    let deviation = (measured as f64 - expected as f64).abs() / expected as f64;
    assert!(deviation <= 0.02, "{name}: measured {measured}, expected {expected}");
}

/// Returns the text of a `/proc` file with memory counters. `None` if the process has ended.
fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(path))
        .ok()
        .filter(|text| text.contains("Rss:") || text.contains("VmHWM:"))
}

/// Returns the list of mappings of a worker. Empty if the process has ended, or if it is still a copy
/// of the harness.
fn read_maps(process: impl std::fmt::Display) -> String {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    if maps.contains("/modelgate-worker") { maps } else { String::new() }
}

/// Returns the number of allocator arenas that belong to threads. glibc reserves 64 MiB for each of
/// them, at a multiple of that size, and makes only the used part at the beginning accessible.
fn thread_arenas(maps: &str) -> usize {
    const ARENA_BYTES: u64 = 64 << 20;
    let address = |text: &str| u64::from_str_radix(text, 16).ok();
    let parse = |line: &str| -> Option<(u64, u64, bool)> {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        Some((address(start)?, address(end)?, fields.next()? == "rw-p"))
    };
    let mappings: Vec<(u64, u64, bool)> = maps.lines().filter_map(parse).collect();
    let is_arena = |pair: &&[(u64, u64, bool)]| {
        let [(start, end, accessible), (next, last, next_accessible)] = **pair else {
            return false;
        };
        start.is_multiple_of(ARENA_BYTES)
            && accessible
            && !next_accessible
            && end == next
            && (end + 1..=last).contains(&(start + ARENA_BYTES))
    };
    mappings.windows(2).filter(is_arena).count()
}

/// Returns the sum of the counters `keys`, converted from KiB to bytes.
fn sum(text: &str, keys: &[&str]) -> u64 {
    text.lines()
        .filter(|line| keys.iter().any(|key| line.starts_with(key)))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum::<u64>()
        * 1024
}

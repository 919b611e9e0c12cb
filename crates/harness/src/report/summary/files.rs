//! The part of the summary about files: their origin, verification, and fraction in the page cache.

use super::text::line;
use crate::measurement::Measurement;
use modelgate_hub::{FileRecord, Verified};
use modelgate_model::units::{counted, format_bytes, format_duration};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Writes a line about the files, and the notes of the measurement.
pub(super) fn write(out: &mut String, measurement: &Measurement) -> std::fmt::Result {
    if !measurement.files.is_empty() {
        let fetched = match measurement.acquire_s {
            Some(took) if measurement.downloaded_bytes > 0 => {
                let took = format_duration(Duration::from_secs_f64(took.get()));
                format!("; {} fetched in {took}", format_bytes(measurement.downloaded_bytes))
            }
            _ => String::new(),
        };
        let cached = cached_fraction(&measurement.files).map_or(String::new(), |fraction| {
            format!("; {:.0} % in the page cache before the load", fraction * 100.0)
        });
        writeln!(out, "Files: {}{fetched}{cached}.\n", files(&measurement.files))?;
    }
    if !measurement.companions.is_empty() {
        let names: Vec<String> =
            measurement.companions.iter().map(|file| line(&file.name)).collect();
        writeln!(out, "Other files: {}.\n", names.join(", "))?;
    }
    for note in &measurement.notes {
        writeln!(out, "Note: {}.\n", line(note))?;
    }
    Ok(())
}

/// Returns the number and size of the files, and how they were verified.
pub fn files(files: &[FileRecord]) -> String {
    let bytes = files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    let mut ways: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files {
        let way = match file.verified {
            Verified::HashedNow => "verified now",
            Verified::HashedEarlier => "verified earlier",
            Verified::SizeCompared => "with the expected size",
            Verified::Unverified => "not verified",
        };
        *ways.entry(way).or_default() += 1;
    }
    let ways: Vec<String> = ways.iter().map(|(way, files)| format!("{files} {way}")).collect();
    let number = counted(files.len(), "weight file");
    format!("{number} of {} ({})", format_bytes(bytes), ways.join(", "))
}

/// Returns the fraction of all bytes that was in the page cache. `None` if it is unknown for a
/// file.
fn cached_fraction(files: &[FileRecord]) -> Option<f64> {
    let cached_bytes =
        |file: &FileRecord| Some(file.page_cache_fraction?.get() * file.bytes as f64);
    let cached: f64 = files.iter().map(cached_bytes).sum::<Option<f64>>()?;
    let all: f64 = files.iter().map(|file| file.bytes as f64).sum();
    (all > 0.0).then_some(cached / all)
}

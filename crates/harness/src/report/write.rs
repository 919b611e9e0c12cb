//! The files of a report: replaced whole, after every model.

use super::report::Report;
use super::summary::summary;
use crate::store::RunRecord;
use modelgate_hub::files::write_atomically;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

/// The summary's name.
const SUMMARY: &str = "MODEL_VALIDATION_SUMMARY.md";

/// Writes the JSON report to `json` and the summary beside it.
///
/// # Errors
/// The folder cannot be written; the error names the path.
pub fn write(report: &Report, json: &Path) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(report)?;
    text.push(b'\n');
    write_atomically(json, &text)?;
    write_atomically(&json.with_file_name(SUMMARY), summary(report).as_bytes())
}

/// Takes the run's JSON report in `folder`: `model_validation_YYYYMMDD_HHMMSS.json`, with a suffix
/// where that is taken. The empty file keeps it from others.
///
/// # Errors
/// The folder cannot be made or written; the error names the path.
pub(crate) fn claim(record: &RunRecord, folder: &Path) -> io::Result<PathBuf> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(named)?;
    let stamp = record.started_at.strftime("%Y%m%d_%H%M%S");
    let mut number = 1;
    loop {
        let suffix = if number == 1 { String::new() } else { format!("_{number}") };
        let path = folder.join(format!("model_validation_{stamp}{suffix}.json"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(named(error)),
        }
    }
}

/// Removes a report that has moved to another folder.
pub(crate) fn remove(json: &Path) {
    // what cannot be removed stays as an earlier state of the same run, and says so itself
    let _ = std::fs::remove_file(json);
    let _ = std::fs::remove_file(json.with_file_name(SUMMARY));
}

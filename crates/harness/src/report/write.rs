//! Writes the files of a report, which are replaced as a unit after every model.

use super::report::Report;
use super::summary::summary;
use crate::store::RunRecord;
use modelgate_hub::files::write_atomically;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

/// The file name of the summary.
const SUMMARY_FILE: &str = "MODEL_VALIDATION_SUMMARY.md";

/// Writes the JSON report to the path `json`, and the summary to the same folder.
///
/// # Errors
/// The folder cannot be written; the error names the path.
pub fn write(report: &Report, json: &Path) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(report)?;
    text.push(b'\n');
    write_atomically(json, &text)?;
    write_atomically(&json.with_file_name(SUMMARY_FILE), summary(report).as_bytes())
}

/// Reserves the name of the JSON report in `folder`: `model_validation_YYYYMMDD_HHMMSS.json`, with
/// a suffix if it exists already. An empty file reserves the name.
///
/// # Errors
/// The folder cannot be created or written; the error names the path.
pub(crate) fn reserve(record: &RunRecord, folder: &Path) -> io::Result<PathBuf> {
    let with_folder =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(with_folder)?;
    let timestamp = record.started_at.strftime("%Y%m%d_%H%M%S");
    let mut number = 1;
    loop {
        let suffix = if number == 1 { String::new() } else { format!("_{number}") };
        let path = folder.join(format!("model_validation_{timestamp}{suffix}.json"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(with_folder(error)),
        }
    }
}

/// Removes the JSON report `json` and its summary, after the report has moved to another folder.
pub(crate) fn remove(json: &Path) {
    // a file that cannot be removed shows an earlier state of the same run
    let _ = std::fs::remove_file(json);
    let _ = std::fs::remove_file(json.with_file_name(SUMMARY_FILE));
}

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
/// A file cannot be written; the error names it. An empty file that reserves the name `json` is
/// then removed.
pub fn write(report: &Report, json: &Path) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(report)?;
    text.push(b'\n');
    let written = write_atomically(json, &text);
    written.inspect_err(|_| remove_reservation(json))?;
    write_atomically(&json.with_file_name(SUMMARY_FILE), summary(report).as_bytes())
}

/// Removes the file at `json` if it only reserves the name: programs that read reports expect JSON.
fn remove_reservation(json: &Path) {
    if std::fs::metadata(json).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0) {
        // the error of the report is more important
        let _ = std::fs::remove_file(json);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_file_is_removed_if_the_report_cannot_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("reserved"), "").expect("written");
        std::fs::write(path("earlier"), "{}").expect("written");
        std::fs::create_dir(path("folder")).expect("created");
        for (name, remains) in [("reserved", false), ("earlier", true), ("folder", true)] {
            remove_reservation(&path(name));
            assert_eq!(path(name).exists(), remains, "{name}");
        }
        remove_reservation(&path("none"));
    }
}

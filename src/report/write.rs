//! The files of a report: replaced whole, after every model.

use super::{Report, summary};
use crate::store::{RunRecord, write_atomically};
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

/// The summary's name.
const SUMMARY: &str = "MODEL_VALIDATION_SUMMARY.md";

/// Where a report was written to.
#[derive(Debug, Clone)]
pub struct Written {
    /// The JSON report.
    pub json: PathBuf,
    /// The summary.
    pub summary: PathBuf,
}

/// Writes the JSON report and the summary into `folder`.
///
/// # Errors
/// The folder cannot be made or written; the error names the path.
pub fn write(report: &Report, folder: &Path, name: &str) -> io::Result<Written> {
    let json = folder.join(name);
    let mut text = serde_json::to_vec_pretty(report)?;
    text.push(b'\n');
    write_atomically(&json, &text)?;
    let summary_path = folder.join(SUMMARY);
    write_atomically(&summary_path, summary(report).as_bytes())?;
    Ok(Written { json, summary: summary_path })
}

/// Takes the run's name for its JSON report: `model_validation_YYYYMMDD_HHMMSS.json`, with a
/// suffix where that is taken. The empty file keeps it from others.
///
/// # Errors
/// The folder cannot be made or written; the error names the path.
pub(crate) fn claim_name(record: &RunRecord, folder: &Path) -> io::Result<String> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(named)?;
    let stamp = record.started_at.strftime("%Y%m%d_%H%M%S");
    for number in 1.. {
        let name = match number {
            1 => format!("model_validation_{stamp}.json"),
            n => format!("model_validation_{stamp}_{n}.json"),
        };
        match OpenOptions::new().write(true).create_new(true).open(folder.join(&name)) {
            Ok(_) => return Ok(name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(named(error)),
        }
    }
    unreachable!("numbers do not end")
}

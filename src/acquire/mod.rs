//! From a model's source to local files.
//!
//! Knows folders, GGUF files, the hub's cache, and models that have no files at all. Reads no
//! weights and knows no engine.

mod hub_cache;
mod in_place;
mod local;

use crate::manifest::{Manifest, Model, Source, Weights};
use modelgate_protocol::{Failure, FailureKind, FileSeen, ModelFiles, Verified};
use std::io;
use std::path::Path;

/// A config, an index or a text larger than this is not one.
const LARGEST_TEXT: u64 = 64 << 20;

/// What acquiring gave.
#[derive(Debug, Clone)]
pub struct Acquired {
    /// Files for the worker.
    pub files: ModelFiles,
    /// The same for the report.
    pub seen: Vec<FileSeen>,
    /// The commit that a hub revision resolved to.
    pub commit: Option<String>,
    /// Bytes that were fetched.
    pub downloaded_bytes: u64,
}

/// Finds the files of `model`. `scratch` is where bundled files are written to.
///
/// # Errors
/// What is not there, where it was looked for, and the remedy.
pub fn acquire(model: &Model, manifest: &Manifest, scratch: &Path) -> Result<Acquired, Failure> {
    let (files, commit) = match &model.source {
        _ if model.weights == Weights::InPlace => {
            (in_place::files(model, manifest, scratch)?, None)
        }
        Source::Local { path } => match manifest.folder() {
            Some(folder) => (local::files(&folder.join(path))?, None),
            None => (local::bundled(path, scratch)?, None),
        },
        Source::Hub { repo, revision, file } => {
            let snapshot = hub_cache::snapshot(repo, revision)?;
            let path = match file {
                Some(file) => snapshot.path.join(file),
                None => snapshot.path.clone(),
            };
            // what an interrupted download has left out is not downloaded
            let files = local::files(&path).map_err(|failure| match failure.kind {
                FailureKind::NotFound => Failure {
                    message: failure.message,
                    ..hub_cache::not_downloaded(repo, revision, &path)
                },
                _ => failure,
            })?;
            (files, Some(snapshot.commit))
        }
    };
    let seen = seen(&files)?;
    Ok(Acquired { files, seen, commit, downloaded_bytes: 0 })
}

/// Reads a text file that is small by its nature, such as a config or an index.
///
/// # Errors
/// It cannot be read, or it is larger than any such file.
pub fn read_small(path: &Path) -> io::Result<String> {
    let bytes = std::fs::metadata(path)?.len();
    if bytes > LARGEST_TEXT {
        let message = format!("{bytes} bytes, expected at most {LARGEST_TEXT}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    std::fs::read_to_string(path)
}

fn seen(files: &ModelFiles) -> Result<Vec<FileSeen>, Failure> {
    files
        .weights
        .iter()
        .map(|path| {
            let metadata = std::fs::metadata(path).map_err(|error| local::io(path, &error))?;
            let name = path.strip_prefix(&files.root).unwrap_or(path);
            Ok(FileSeen {
                name: name.display().to_string(),
                bytes: metadata.len(),
                sha256: None,
                verified: Verified::No,
                page_cache_fraction: None,
            })
        })
        .collect()
}

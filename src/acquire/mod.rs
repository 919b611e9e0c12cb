//! From a model's source to local files that are what they should be.
//!
//! Each kind of source is one [`Origin`]: the hub, a folder or GGUF file, what is bundled, and models
//! that have no files at all. Reads no weights but to hash them, and knows no engine.

pub mod hub;
mod in_place;
mod local;
mod page_cache;

use crate::env::Environment;
use crate::manifest::{Manifest, Model, Source, Weights};
use crate::signal::Interrupt;
use modelgate_protocol::{Failure, FileSeen, Finite, ModelFiles, Verified};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A config, an index or a text larger than this is not one.
const LARGEST_TEXT: u64 = 32 << 20;

/// What acquiring gave.
#[derive(Debug, Clone)]
pub struct Acquired {
    /// Files for the worker.
    pub files: ModelFiles,
    /// The files of the weights, for the report.
    pub seen: Vec<FileSeen>,
    /// The commit that a hub revision resolved to.
    pub commit: Option<String>,
    /// Bytes that were fetched.
    pub downloaded_bytes: u64,
    /// What somebody who reads the report should know of how the files were had.
    pub notes: Vec<String>,
}

/// What acquiring may need beside the source itself.
pub struct Context<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// What the environment asks for.
    pub environment: &'a Environment,
    /// Where bundled files are written to.
    pub scratch: &'a Path,
    /// Signals to this process.
    pub interrupt: &'a Interrupt,
    /// Hash every file, also those that were found right before.
    pub verify: bool,
    /// Is shown the model's config before its weights are fetched, and may refuse them.
    pub admit: &'a dyn Fn(&Path) -> Result<(), Failure>,
}

impl Context<'_> {
    fn admit(&self, files: &ModelFiles) -> Result<(), Failure> {
        files.config.as_deref().map_or(Ok(()), self.admit)
    }
}

/// A source that files can be had from.
trait Origin {
    /// Gives the files.
    ///
    /// # Errors
    /// What is not there or not right, where it was looked for, and the remedy.
    fn acquire(&self, context: &Context<'_>) -> Result<Acquired, Failure>;
}

/// Gives the files of `model`.
///
/// # Errors
/// What is not there or not right, where it was looked for, and the remedy.
pub fn acquire(model: &Model, context: &Context<'_>) -> Result<Acquired, Failure> {
    let mut acquired = origin(model, context.manifest).acquire(context)?;
    look(&mut acquired);
    Ok(acquired)
}

fn origin<'a>(model: &'a Model, manifest: &Manifest) -> Box<dyn Origin + 'a> {
    match &model.source {
        source if model.weights == Weights::InPlace => Box::new(in_place::InPlace { source }),
        Source::Local { path } => match manifest.folder() {
            Some(folder) => Box::new(local::Local { path: folder.join(path) }),
            None => Box::new(local::Bundled { path: path.clone() }),
        },
        Source::Hub { repo, revision, file } => Box::new(hub::Repository {
            title: model.title(),
            model: &model.id,
            repo,
            revision,
            file: file.as_deref(),
            stall: model.stall,
        }),
    }
}

/// Looks at how much of the weights is in the page cache. They have not been read yet, unless they
/// were hashed just now.
fn look(acquired: &mut Acquired) {
    let (mut cached, mut all, mut is_known) = (0.0, 0.0, true);
    for (path, seen) in acquired.files.weights.iter().zip(&mut acquired.seen) {
        let fraction = page_cache::fraction(path);
        seen.page_cache_fraction = fraction.and_then(Finite::new);
        is_known &= fraction.is_some();
        cached += fraction.unwrap_or_default() * seen.bytes as f64;
        all += seen.bytes as f64;
    }
    let fraction = if is_known { Finite::new(cached / all) } else { None };
    acquired.files.page_cache_fraction = fraction;
}

impl Acquired {
    /// Files that were here, and of which nothing is known to verify them against.
    ///
    /// # Errors
    /// They are not admitted, or cannot be looked at.
    fn at_hand(files: ModelFiles, context: &Context<'_>) -> Result<Acquired, Failure> {
        context.admit(&files)?;
        let seen = seen(&files, &BTreeMap::new())?;
        Ok(Acquired { files, seen, commit: None, downloaded_bytes: 0, notes: Vec::new() })
    }
}

/// The weights among `files` with what is known of them by their paths.
fn seen(
    files: &ModelFiles,
    known: &BTreeMap<PathBuf, (Verified, Option<String>)>,
) -> Result<Vec<FileSeen>, Failure> {
    files
        .weights
        .iter()
        .map(|path| {
            let metadata = std::fs::metadata(path).map_err(|error| local::io(path, &error))?;
            let name = path.strip_prefix(&files.root).unwrap_or(path);
            let (verified, sha256) = known.get(path).cloned().unwrap_or((Verified::No, None));
            Ok(FileSeen {
                name: name.display().to_string(),
                bytes: metadata.len(),
                sha256,
                verified,
                page_cache_fraction: None,
            })
        })
        .collect()
}

/// Reads a text file that is small by its nature, such as a config or an index.
///
/// # Errors
/// It cannot be read, or it is larger than any such file.
pub fn read_small(path: &Path) -> io::Result<String> {
    let invalid = |message: String| Err(io::Error::new(io::ErrorKind::InvalidData, message));
    if !std::fs::metadata(path)?.is_file() {
        return invalid("no regular file".into());
    }
    let mut text = String::new();
    // the size that a file says it has is not what can be read of it everywhere
    File::open(path)?.take(LARGEST_TEXT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_TEXT {
        return invalid(format!("over {LARGEST_TEXT} bytes, expected at most that"));
    }
    Ok(text)
}

//! Finds a model in the cache alone, when the hub must not or cannot be reached. Sends no request, and
//! writes nothing but the records of verified contents.

use crate::content_hash::ContentHash;
use crate::error::HubError;
use crate::fetched::Fetched;
use crate::file_seen::{Verifications, Verified};
use crate::file_state::FileState;
use crate::inspect::inspect;
use crate::job::Job;
use crate::listing::{ListedFile, describe_missing};
use crate::variables;
use modelgate_model::layout::LayoutError;
use modelgate_protocol::{FailureKind, ModelFiles};
use std::path::PathBuf;

/// Returns the files of `revision` from the cache.
///
/// # Errors
/// The cache lacks something ([`FailureKind::Offline`]), or a file in it is wrong.
pub(crate) fn find_in_cache(job: &Job, revision: &str) -> Result<Fetched, HubError> {
    let Some(commit) = job.cache.commit(revision) else {
        return Err(offline(job, "the cache does not know this revision"));
    };
    let verifications = match job.cache.listing(&commit) {
        Some(listing) => verify_listed(job, &listing, &commit)?,
        None => verify_unlisted(job, &commit)?,
    };
    let files = model_files(job, &commit)?;
    Fetched::new(job, files, &commit, &verifications)
}

/// Returns the files of `revision` from the cache, which replace those of a hub that could not be
/// reached: it may be unreachable for a while, and what was fetched before is still right.
///
/// # Errors
/// `error`, if it has another cause or the cache lacks something; or a file in the cache is wrong.
pub(crate) fn find_instead(
    job: &Job,
    error: HubError,
    revision: &str,
) -> Result<Fetched, HubError> {
    if !is_unreachable(error.kind) {
        return Err(error);
    }
    match find_in_cache(job, revision) {
        Err(lacking) if lacking.kind == FailureKind::Offline => Err(error),
        Err(other) => Err(other),
        Ok(mut fetched) => {
            fetched.notes.push(format!(
                "the hub cannot be reached ({} (acquire): {error}); commit {} of revision {} in \
                 the cache is used",
                error.kind.name(),
                fetched.commit,
                job.source.revision
            ));
            Ok(fetched)
        }
    }
}

/// Returns whether the hub could not be reached, which may be possible another time.
fn is_unreachable(kind: FailureKind) -> bool {
    use FailureKind::{Connect, NameResolution, RateLimited, ServerError, Timeout};
    matches!(kind, Connect | NameResolution | RateLimited | ServerError | Timeout)
}

/// Returns how the needed files of a commit are verified whose listing is in the cache.
fn verify_listed(
    job: &Job,
    listing: &[ListedFile],
    commit: &str,
) -> Result<Verifications, HubError> {
    let needed = job.needed_files(listing, commit)?;
    let mut verifications = verify(job, &needed.small, commit)?;
    let weights = job.weight_files(needed.weights, listing, commit)?;
    verifications.extend(verify(job, &weights, commit)?);
    Ok(verifications)
}

/// Returns how the files of a commit are verified that another tool has fetched: the names of their
/// contents are hashes, but their sizes are not known.
fn verify_unlisted(job: &Job, commit: &str) -> Result<Verifications, HubError> {
    let files = model_files(job, commit)?;
    let snapshot = job.cache.snapshot(commit);
    let listed = |path: &PathBuf| {
        let target = std::fs::read_link(path).ok()?;
        let hash = ContentHash::parse(target.file_name()?.to_str()?)?;
        let bytes = std::fs::metadata(path).ok()?.len();
        let path = path.strip_prefix(&snapshot).ok()?.to_str()?.to_owned();
        Some(ListedFile { path, bytes, hash })
    };
    let listed: Vec<ListedFile> = paths(&files).filter_map(listed).collect();
    let mut verifications = verify(job, &listed, commit)?;
    // a file always has its own size
    verifications.retain(|_, verification| verification.verified != Verified::Size);
    Ok(verifications)
}

/// Returns how `files` are verified, all of which must be in the cache and right.
fn verify(job: &Job, files: &[ListedFile], commit: &str) -> Result<Verifications, HubError> {
    let mut verifications = Verifications::new();
    let mut missing = Vec::new();
    for (file, state) in inspect(job, files, commit)? {
        match state {
            FileState::Right { verification, linked: true } => {
                verifications.insert(file.path.clone(), verification);
            }
            FileState::Right { linked: false, .. } | FileState::Missing => missing.push(file),
            FileState::Wrong { reason, .. } => return Err(wrong(job, file, &reason)),
        }
    }
    if missing.is_empty() {
        return Ok(verifications);
    }
    Err(offline(job, &describe_missing(&missing)))
}

/// Returns the files of a commit in the cache.
fn model_files(job: &Job, commit: &str) -> Result<ModelFiles, HubError> {
    job.model_files(commit).map_err(|error: LayoutError| match error.kind {
        FailureKind::NotFound => offline(job, &error.message),
        _ => error.into(),
    })
}

/// Returns the error for something that the cache lacks.
fn offline(job: &Job, lacking: &str) -> HubError {
    let why = if job.settings.offline {
        format!("{} forbids requests to the hub", variables::OFFLINE[0])
    } else {
        "the hub cannot be reached".to_owned()
    };
    let message = format!("{lacking}; the cache is {}, and {why}", job.cache.root().display());
    let meant = job.known_repository();
    let meant = meant.map_or(String::new(), |name| format!("did you mean {name}? Otherwise, "));
    let hint = format!("{meant}{}", how_to_fetch(job));
    job.context(&job.source.revision).error(FailureKind::Offline, &message, hint)
}

fn how_to_fetch(job: &Job) -> String {
    let source = &job.source;
    let file = source.file.as_ref().map_or(String::new(), |file| format!(" {file}"));
    format!(
        "download it on a host with network access: `cargo run --release -- prefetch {}`, or `hf \
         download {}{file} --revision {}`; or set {} to the cache that contains it",
        job.options.model,
        source.repo,
        source.revision,
        variables::HF_HOME
    )
}

/// Returns the error for a file that is wrong and cannot be fetched again.
fn wrong(job: &Job, file: &ListedFile, reason: &str) -> HubError {
    let blob = job.cache.blob(&file.hash);
    job.context(&job.source.revision).with_file(&file.path).error(
        FailureKind::Corrupt,
        &format!("the file in the cache is wrong: {reason} ({})", blob.display()),
        format!("{}; the wrong file is then replaced", how_to_fetch(job)),
    )
}

/// Returns the paths of all files of a model.
fn paths(files: &ModelFiles) -> impl Iterator<Item = &PathBuf> {
    let small = [
        &files.index,
        &files.config,
        &files.generation_config,
        &files.tokenizer,
        &files.tokenizer_config,
        &files.chat_template,
    ];
    files.weights.iter().chain(small.into_iter().flatten())
}

//! Finds a model in the cache, in offline mode or if the hub is unreachable. Sends no requests, and
//! writes only the records that say which cached files were verified.

use crate::content_hash::ContentHash;
use crate::error::HubError;
use crate::fetched::Fetched;
use crate::file_record::{Verifications, Verified};
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
/// A file is missing from the cache ([`FailureKind::Offline`]), or a file in it is wrong.
pub(crate) fn find_in_cache(job: &Job, revision: &str) -> Result<Fetched, HubError> {
    let Some(commit) = job.cache.commit(revision) else {
        return Err(offline(job, "the cache does not contain this revision"));
    };
    let verifications = match job.cache.listing(&commit) {
        Some(listing) => verify_listed(job, &listing, &commit)?,
        None => verify_unlisted(job, &commit)?,
    };
    let files = model_files(job, &commit)?;
    Fetched::new(job, files, &commit, &verifications)
}

/// Returns the files of `revision` from the cache after a request failed with `error`, if the hub
/// did not answer or could not. A note names the error and the used commit.
///
/// # Errors
/// `error`, if it is an answer of the hub or a file is missing from the cache; or a file in the
/// cache is wrong.
pub(crate) fn fall_back_to_cache(
    job: &Job,
    error: HubError,
    revision: &str,
) -> Result<Fetched, HubError> {
    let Some(problem) = problem_with_hub(&error) else {
        return Err(error);
    };
    match find_in_cache(job, revision) {
        Err(missing) if missing.kind == FailureKind::Offline => Err(error),
        Err(other) => Err(other),
        Ok(mut fetched) => {
            fetched.notes.push(format!(
                "{problem} ({} (acquire): {error}); commit {} of revision {} in the cache is used",
                error.kind.name(),
                fetched.commit,
                job.source.revision
            ));
            Ok(fetched)
        }
    }
}

/// Returns why the hub gave no answer. `None` if `error` is an answer of the hub, or has another
/// cause.
fn problem_with_hub(error: &HubError) -> Option<&'static str> {
    use FailureKind as Kind;
    match error.kind {
        Kind::Connection | Kind::NameResolution | Kind::Timeout | Kind::Tls => {
            Some("the hub cannot be reached")
        }
        Kind::RateLimited | Kind::ServerError => Some("the hub cannot answer now"),
        // sent by a proxy: the answers of the hub have another form
        Kind::InvalidResponse
        | Kind::TokenMissing
        | Kind::TokenRefused
        | Kind::LicenceNotAccepted
        | Kind::RepositoryNotFound
        | Kind::RevisionNotFound
            if !error.is_answer_of_hub =>
        {
            Some("another server answers instead of the hub")
        }
        _ => None,
    }
}

/// Verifies the needed files of a commit with the listing in the cache.
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

/// Verifies the files of a commit without a listing, which another tool downloaded. The names of
/// their contents are the expected hashes; the expected sizes are not known.
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
    // the size in `listed` is that of the file itself, so its comparison proves nothing
    verifications.retain(|_, verification| verification.verified != Verified::SizeCompared);
    Ok(verifications)
}

/// Verifies `files`, all of which must be in the cache with the right content.
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

/// Returns the error for a file or revision that is missing from the cache, as `missing` describes.
fn offline(job: &Job, missing: &str) -> HubError {
    let why = if job.settings.offline {
        format!("{} forbids requests to the hub", variables::OFFLINE[0])
    } else {
        "the hub cannot be reached".to_owned()
    };
    let message = format!("{missing}; the cache is {}, and {why}", job.cache.root().display());
    let similar = job.known_repository();
    let question = similar
        .map_or(String::new(), |name| format!("use {name} if that is the model you need; or "));
    let hint = format!("{question}{}", download_hint(job));
    job.context(&job.source.revision).error(FailureKind::Offline, &message, hint)
}

fn download_hint(job: &Job) -> String {
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

/// Returns the error for a wrong file in the cache that cannot be downloaded again.
fn wrong(job: &Job, file: &ListedFile, reason: &str) -> HubError {
    let blob = job.cache.blob(&file.hash);
    job.context(&job.source.revision).with_file(&file.path).error(
        FailureKind::Corrupt,
        &format!("the cached file is damaged: {reason} ({})", blob.display()),
        format!("{}; a download replaces the damaged file", download_hint(job)),
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
        &files.special_tokens_map,
        &files.chat_template,
    ];
    files.weights.iter().chain(small.into_iter().flatten())
}

//! Ensures that the cache contains files of a commit: missing and wrong files are downloaded,
//! several in parallel.

use crate::cache::LinkOptions;
use crate::disk::{check_room, write_error};
use crate::download::Download;
use crate::error::HubError;
use crate::file_record::{Verification, Verifications};
use crate::file_state::FileState;
use crate::identity::Identity;
use crate::inspect::inspect;
use crate::job::Job;
use crate::listing::{ListedFile, describe_missing, total_bytes};
use crate::observer::TransferKind;
use crate::runtime::PARALLEL_FILES;
use modelgate_model::units::{counted, format_bytes};
use modelgate_protocol::FailureKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// The interval of progress reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(50);

/// A file to download, with the wrong content in its place. `None` if there is no content.
type MissingFile<'a> = (&'a ListedFile, Option<Identity>);

/// Ensures that the cache contains `files` of the commit of `download`, and returns how they were
/// verified. Adds a note for each wrong file to `notes`.
///
/// # Errors
/// A file cannot be downloaded or written.
pub(crate) async fn ensure(
    download: &Arc<Download>,
    files: &[ListedFile],
    notes: &mut Vec<String>,
) -> Result<Verifications, HubError> {
    let (job, commit) = (download.job(), download.commit());
    let (cache, context) = (&job.cache, job.context(commit));
    let mut verifications = Verifications::new();
    let (mut missing, mut unlinked) = (Vec::new(), Vec::new());
    for (file, state) in inspect(job, files, commit)? {
        match state {
            FileState::Right { verification, linked } => {
                verifications.insert(file.path.clone(), verification);
                if !linked {
                    unlinked.push(file);
                }
            }
            FileState::Missing => missing.push((file, None)),
            FileState::Wrong { reason, content } => {
                let path = &file.path;
                let note = format!("{path} in the cache is wrong ({reason}): downloaded again");
                job.note(note, notes);
                missing.push((file, Some(content)));
            }
        }
    }
    if missing.is_empty() && unlinked.is_empty() {
        return Ok(verifications);
    }
    cache.create_folders().map_err(|error| {
        let mut error = write_error(&context, error);
        let all = missing.iter().map(|(file, _)| *file).chain(unlinked.iter().copied());
        error.message += &format!("; {}", describe_missing(&all.collect::<Vec<_>>()));
        error
    })?;
    let link = |file: &ListedFile, may_move| {
        let linked =
            cache.link(file, commit, LinkOptions { symlinks: job.settings.symlinks, may_move });
        linked.map_err(|error| write_error(&context, error))
    };
    unlinked.into_iter().try_for_each(|file| link(file, false))?;
    let needed = bytes_to_download(job, &missing);
    if let Some(warning) = check_room(&context, cache.root(), needed)? {
        job.note(warning, notes);
    }
    download_all(download, &missing, |file, sha256| {
        let uses = missing.iter().filter(|(other, _)| other.hash == file.hash);
        // a wrong content may already be linked from other commits
        let may_move = sha256.is_some() && uses.map(|(_, wrong)| wrong).eq([&None]);
        link(file, may_move)?;
        let verification = match sha256 {
            Some(sha256) => Verification::now(sha256),
            None => verification_by_other(download, file)?,
        };
        verifications.insert(file.path.clone(), verification);
        Ok(())
    })
    .await?;
    Ok(verifications)
}

/// Returns the verification of `file`, which another process downloaded in the meantime. If that
/// was a run of this crate, the file was hashed.
fn verification_by_other(download: &Download, file: &ListedFile) -> Result<Verification, HubError> {
    let states = inspect(download.job(), std::slice::from_ref(file), download.commit())?;
    match states.into_iter().next() {
        Some((_, FileState::Right { verification, .. })) => Ok(verification),
        _ => {
            let context = download.job().context(download.commit()).with_file(&file.path);
            Err(context.error(
                FailureKind::Corrupt,
                "another process downloaded the file during this run, and the content does not \
                 match the hash that the hub lists",
                "start again: the file is then downloaded again",
            ))
        }
    }
}

/// Returns the number of bytes of `missing` that no partial file contains.
fn bytes_to_download(job: &Job, missing: &[MissingFile<'_>]) -> u64 {
    let bytes = missing
        .iter()
        .map(|(file, _)| file.bytes.saturating_sub(job.cache.partial_bytes(&file.hash)));
    bytes.fold(0, u64::saturating_add)
}

/// Downloads the `missing` files, several in parallel. `downloaded` is called with each file and
/// its SHA-256, which is `None` if another process downloaded the file in the meantime.
async fn download_all(
    download: &Arc<Download>,
    missing: &[MissingFile<'_>],
    mut downloaded: impl FnMut(&ListedFile, Option<String>) -> Result<(), HubError>,
) -> Result<(), HubError> {
    let job = download.job();
    let all = total_bytes(missing.iter().map(|(file, _)| *file));
    let to_download = bytes_to_download(job, missing);
    download.reset_present();
    let mut transfer = job.observer.transfer(TransferKind::Fetch, all);
    let description = description(job.cache.root(), missing.len(), to_download);
    transfer.begin(all - to_download, &description);
    let mut waiting = missing.iter().enumerate();
    let mut running = JoinSet::new();
    let mut start = |running: &mut JoinSet<(usize, Result<Option<String>, HubError>)>| {
        if let Some((index, (file, wrong))) = waiting.next() {
            let (download, file, wrong) = (Arc::clone(download), (*file).clone(), *wrong);
            running.spawn(async move { (index, download.download_file(&file, wrong).await) });
        }
    };
    (0..PARALLEL_FILES).for_each(|_| start(&mut running));
    loop {
        tokio::select! {
            ended = running.join_next() => {
                let Some(ended) = ended else {
                    transfer.finish(download.received_bytes());
                    return Ok(());
                };
                let (index, result) = ended.map_err(|error| {
                    HubError::internal(format!("a download task failed: {error}"))
                })?;
                downloaded(missing[index].0, result?)?;
                start(&mut running);
            }
            () = tokio::time::sleep(REPORT_INTERVAL) => transfer.at(download.present_bytes()),
        }
    }
}

fn description(folder: &Path, files: usize, to_download: u64) -> String {
    format!(
        "{}, {} to download, into {}",
        counted(files, "file"),
        format_bytes(to_download),
        folder.display()
    )
}

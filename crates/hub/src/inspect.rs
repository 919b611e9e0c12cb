//! Determines the state of files in the cache.

use crate::error::HubError;
use crate::file_state::{FileState, file_state};
use crate::interrupt::interruption;
use crate::job::Job;
use crate::listing::{ListedFile, total_bytes};
use crate::observer::TransferKind;
use modelgate_model::layout::LayoutError;

/// Returns the state of each of `files` of `commit` in the cache.
///
/// # Errors
/// A file cannot be read, or a signal ended the run.
pub(crate) fn inspect<'a>(
    job: &Job,
    files: &'a [ListedFile],
    commit: &str,
) -> Result<Vec<(&'a ListedFile, FileState)>, HubError> {
    let (observer, verify) = (&*job.observer, job.options.verify);
    let mut transfer = verify.then(|| observer.transfer(TransferKind::Verify, total_bytes(files)));
    let mut done = 0;
    let mut progress = |bytes: u64| {
        done += bytes;
        if let Some(transfer) = &mut transfer {
            transfer.at(done);
        }
        observer.interrupted().is_none()
    };
    let inspect = |file: &'a ListedFile| {
        let state = file_state(&job.cache, file, commit, verify, &mut progress);
        let state = state.map_err(|error| match observer.interrupted() {
            Some(signal) => interruption(&signal),
            None => LayoutError::io(&job.cache.snapshot(commit).join(&file.path), error).into(),
        });
        state.map(|state| (file, state))
    };
    files.iter().map(inspect).collect()
}

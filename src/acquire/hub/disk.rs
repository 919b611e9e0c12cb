//! Room for what is to be fetched, and what it means when writing it fails. Knows no network.

use super::fault::Asked;
use crate::env;
use crate::manifest::format_bytes;
use modelgate_protocol::{Failure, FailureKind};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// Refuses to begin where `needed` bytes have no room on the disk of `folder`, or of the nearest
/// folder above it that is there.
pub(super) fn room(asked: &Asked<'_>, folder: &Path, needed: u64) -> Result<(), Failure> {
    let Some(free) = free(folder) else {
        return Ok(());
    };
    if needed <= free {
        return Ok(());
    }
    let what = format!(
        "{} are still to be fetched, and the disk of {} has {} free",
        format_bytes(needed),
        folder.display(),
        format_bytes(free)
    );
    Err(asked.failure(FailureKind::DiskFull, &what, more_room()))
}

fn more_room() -> String {
    format!(
        "free some room (`hf cache ls` shows what the cache holds), or move the cache: {} names \
         another folder for it",
        env::HF_HOME
    )
}

/// Bytes that this user may still write at `folder`; none where the system does not tell.
fn free(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.is_dir())?;
    let disk = rustix::fs::statvfs(there).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The failure for `path` that could not be written.
pub(super) fn failure(asked: &Asked<'_>, path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match errno {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
            let free = free(path)
                .map_or(String::new(), |free| format!("; {} are free there", format_bytes(free)));
            let what = format!("{shown} cannot be written to its end: {error}{free}");
            let hint = match errno {
                Some(Errno::FBIG) => "the size of files is limited (`ulimit -f`): raise it; what \
                                      was fetched is kept"
                    .to_owned(),
                Some(Errno::DQUOT) => format!("the quota is used up: {}", more_room()),
                _ => format!("{}; what was fetched is kept", more_room()),
            };
            asked.failure(FailureKind::DiskFull, &what, hint)
        }
        Some(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => {
            let what = format!("{shown} cannot be locked: {error}");
            let hint = format!(
                "the file system has no locks, without which two runs would write into one file: \
                 {} names a cache on another one",
                env::HF_HOME
            );
            asked.failure(FailureKind::CacheNotWritable, &what, hint)
        }
        Some(Errno::IO) => {
            let what = format!("{shown} cannot be read or written: {error}");
            let hint = "the disk, or its network, has an error: see the system's log (`dmesg`)";
            asked.failure(FailureKind::Io, &what, hint)
        }
        _ => {
            let what = format!("the cache cannot be written: {shown}: {error}");
            let hint = format!(
                "give this user the right to write there, or name another folder for the cache \
                 with {}; a cache that is read alone must hold all files of the model",
                env::HF_HOME
            );
            asked.failure(FailureKind::CacheNotWritable, &what, hint)
        }
    }
}

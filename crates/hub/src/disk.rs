//! The room on the disk for the files to be fetched, and what an error of writing them means.

use crate::error::HubError;
use crate::request_context::RequestContext;
use crate::variables;
use modelgate_model::units::format_bytes;
use modelgate_protocol::FailureKind;
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// Checks that the disk of `folder`, or of the nearest existing folder above it, has room for `needed`
/// bytes.
///
/// # Errors
/// It has less.
pub(crate) fn check_room(
    context: &RequestContext<'_>,
    folder: &Path,
    needed: u64,
) -> Result<(), HubError> {
    let Some(free) = free_bytes(folder) else {
        return Ok(());
    };
    if needed <= free {
        return Ok(());
    }
    let message = format!(
        "{} are still to be fetched, and the disk of {} has {} free",
        format_bytes(needed),
        folder.display(),
        format_bytes(free)
    );
    Err(context.error(FailureKind::DiskFull, &message, more_room()))
}

fn more_room() -> String {
    format!(
        "free some room (`hf cache ls` shows what the cache holds), or move the cache: {} names \
         another folder for it",
        variables::HF_HOME
    )
}

/// Returns the bytes that this user may still write at `path`; `None` if the system does not tell.
fn free_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|folder| folder.is_dir())?;
    let disk = rustix::fs::statvfs(existing).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Returns the error for `path` that could not be written.
pub(crate) fn write_error(context: &RequestContext<'_>, path: &Path, error: io::Error) -> HubError {
    let shown = path.display();
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let (kind, message, hint) = match errno {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
            let free = free_bytes(path)
                .map_or(String::new(), |free| format!("; {} are free there", format_bytes(free)));
            let hint = match errno {
                Some(Errno::FBIG) => "the size of files is limited (`ulimit -f`): raise it; what \
                                      was fetched is kept"
                    .to_owned(),
                Some(Errno::DQUOT) => format!("the quota is used up: {}", more_room()),
                _ => format!("{}; what was fetched is kept", more_room()),
            };
            let message = format!("{shown} cannot be written to its end: {error}{free}");
            (FailureKind::DiskFull, message, hint)
        }
        Some(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => (
            FailureKind::CacheNotWritable,
            format!("{shown} cannot be locked: {error}"),
            format!(
                "the file system has no locks, without which two runs would write into one file: \
                 {} names a cache on another one",
                variables::HF_HOME
            ),
        ),
        Some(Errno::IO) => (
            FailureKind::Io,
            format!("{shown} cannot be read or written: {error}"),
            "the disk, or its network, has an error: see the system's log (`dmesg`)".to_owned(),
        ),
        _ => (
            FailureKind::CacheNotWritable,
            format!("the cache cannot be written: {shown}: {error}"),
            format!(
                "give this user the right to write there, or name another folder for the cache \
                 with {}; a cache that is read alone must hold all files of the model",
                variables::HF_HOME
            ),
        ),
    };
    context.error(kind, &message, hint).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::variables::Variables;

    #[test]
    fn errors_of_the_system_are_told_apart() {
        let settings = Settings::resolve(&Variables::default(), Path::new("/none"));
        let settings = settings.expect("settings");
        let context =
            RequestContext { repo: "o/n", revision: "main", file: None, settings: &settings };
        for (errno, kind, hint) in [
            (Errno::NOSPC, FailureKind::DiskFull, "hf cache ls"),
            (Errno::DQUOT, FailureKind::DiskFull, "quota"),
            (Errno::FBIG, FailureKind::DiskFull, "ulimit -f"),
            (Errno::NOLCK, FailureKind::CacheNotWritable, "no locks"),
            (Errno::IO, FailureKind::Io, "dmesg"),
            (Errno::ROFS, FailureKind::CacheNotWritable, "right to write"),
        ] {
            let error = write_error(&context, Path::new("/cache/blob"), errno.into());
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.hint.contains(hint), "{errno}: {}", error.hint);
            assert!(error.message.contains("/cache/blob"), "{error}");
        }
        let error = check_room(&context, Path::new("/"), u64::MAX).expect_err("no such disk");
        assert_eq!(error.kind, FailureKind::DiskFull);
    }
}

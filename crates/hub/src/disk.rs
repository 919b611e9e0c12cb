//! The free space on the disk for downloads, and the errors of writing files.

use crate::disk_error::DiskError;
use crate::error::HubError;
use crate::request_context::RequestContext;
use crate::variables;
use modelgate_model::units::format_bytes;
use modelgate_protocol::FailureKind;
use rustix::io::Errno;
use std::path::Path;

/// The free space of a disk for this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FreeSpace {
    Bytes(u64),
    /// The file system does not report it. Some network and memory file systems report that the disk
    /// has no blocks.
    Unknown,
}

impl FreeSpace {
    /// Returns the free space on the disk of `folder`, or of the nearest existing folder above it.
    fn of(folder: &Path) -> FreeSpace {
        let existing = folder.ancestors().find(|folder| folder.is_dir());
        let disk = existing.and_then(|existing| rustix::fs::statvfs(existing).ok());
        disk.map_or(FreeSpace::Unknown, |disk| {
            FreeSpace::from_blocks(disk.f_blocks, disk.f_bavail, disk.f_frsize)
        })
    }

    /// Returns the free space of a disk with `blocks` blocks of `block_bytes` bytes, of which
    /// `available` are free for this user.
    fn from_blocks(blocks: u64, available: u64, block_bytes: u64) -> FreeSpace {
        if blocks == 0 {
            return FreeSpace::Unknown;
        }
        FreeSpace::Bytes(available.saturating_mul(block_bytes))
    }
}

/// Checks that the disk of `folder` has `needed` bytes of free space. Returns a warning if the file
/// system does not report it.
///
/// # Errors
/// The free space is smaller.
pub(crate) fn check_room(
    context: &RequestContext<'_>,
    folder: &Path,
    needed: u64,
) -> Result<Option<String>, HubError> {
    match FreeSpace::of(folder) {
        FreeSpace::Bytes(free) if needed <= free => Ok(None),
        FreeSpace::Bytes(free) => {
            let message = format!(
                "{} are missing, but the disk of {} has {} free",
                format_bytes(needed),
                folder.display(),
                format_bytes(free)
            );
            Err(context.error(FailureKind::DiskFull, &message, free_space_hint()))
        }
        FreeSpace::Unknown if needed == 0 => Ok(None),
        FreeSpace::Unknown => Ok(Some(format!(
            "the free space is unknown: the file system of {} reports no size; {} are needed",
            folder.display(),
            format_bytes(needed)
        ))),
    }
}

fn free_space_hint() -> String {
    format!(
        "free disk space (`hf cache ls` lists the cache); or set {} to a folder on another disk",
        variables::HF_HOME
    )
}

/// Returns the error for an operation on the cache that failed.
pub(crate) fn write_error(context: &RequestContext<'_>, error: DiskError) -> HubError {
    let DiskError { operation, path, source } = &error;
    let shown = path.display();
    let errno = source.raw_os_error().map(Errno::from_raw_os_error);
    let (kind, message, hint) = match errno {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
            let free = match FreeSpace::of(path) {
                FreeSpace::Bytes(free) => {
                    format!("; {} are free on this disk", format_bytes(free))
                }
                FreeSpace::Unknown => String::new(),
            };
            let hint = match errno {
                Some(Errno::FBIG) => "raise the limit of the file size (`ulimit -f`); downloaded \
                                      parts are kept"
                    .to_owned(),
                Some(Errno::DQUOT) => format!("free some of the quota: {}", free_space_hint()),
                _ => format!("{}; downloaded parts are kept", free_space_hint()),
            };
            let message =
                format!("{shown} cannot be written completely: {operation} failed: {source}{free}");
            (FailureKind::DiskFull, message, hint)
        }
        Some(Errno::IO) => (
            FailureKind::Io,
            format!("{shown} cannot be read or written: {operation} failed: {source}"),
            "check the disk and the log of the system (`dmesg`)".to_owned(),
        ),
        _ => (
            FailureKind::CacheNotWritable,
            format!("the cache cannot be written: {error}"),
            format!(
                "give this user write permission for the cache; or set {} to a writable folder; or \
                 add the missing files: a read-only cache must contain all files of the model",
                variables::HF_HOME
            ),
        ),
    };
    context.error(kind, &message, hint).with_source(error.source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk_error::failed;
    use crate::settings::Settings;
    use crate::variables::Variables;

    #[test]
    fn a_disk_without_blocks_is_not_full() {
        assert_eq!(FreeSpace::from_blocks(0, 0, 4096), FreeSpace::Unknown);
        assert_eq!(FreeSpace::from_blocks(1000, 0, 4096), FreeSpace::Bytes(0));
        assert_eq!(FreeSpace::from_blocks(1000, 3, 4096), FreeSpace::Bytes(12288));
        let settings = Settings::resolve(&Variables::default(), Path::new("/none"));
        let settings = settings.expect("settings");
        let context =
            RequestContext { repo: "o/n", revision: "main", file: None, settings: &settings };
        // proc reports no blocks
        let warning = check_room(&context, Path::new("/proc"), 1000).expect("no error");
        let expected = "the free space is unknown: the file system of /proc reports no size; 1.00 \
                        kB are needed";
        assert_eq!(warning.as_deref(), Some(expected));
        assert_eq!(check_room(&context, Path::new("/proc"), 0).expect("no error"), None);
        assert_eq!(check_room(&context, &std::env::temp_dir(), 1).expect("room"), None);
    }

    #[test]
    fn disk_errors_have_separate_kinds_and_hints() {
        let settings = Settings::resolve(&Variables::default(), Path::new("/none"));
        let settings = settings.expect("settings");
        let context =
            RequestContext { repo: "o/n", revision: "main", file: None, settings: &settings };
        for (errno, kind, hint) in [
            (Errno::NOSPC, FailureKind::DiskFull, "hf cache ls"),
            (Errno::DQUOT, FailureKind::DiskFull, "quota"),
            (Errno::FBIG, FailureKind::DiskFull, "ulimit -f"),
            (Errno::IO, FailureKind::Io, "dmesg"),
            (Errno::ROFS, FailureKind::CacheNotWritable, "write permission"),
        ] {
            let path = Path::new("/cache/blob");
            let error = write_error(&context, failed("rename", path)(errno.into()));
            assert!(error.message.contains(&format!("rename failed: {errno}")), "{error}");
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.hint.contains(hint), "{errno}: {}", error.hint);
            assert!(error.message.contains("/cache/blob"), "{error}");
        }
        let error =
            check_room(&context, Path::new("/"), u64::MAX).expect_err("the disk is too small");
        assert_eq!(error.kind, FailureKind::DiskFull);
    }
}

//! The lock of a content in the cache, so that only one run or tool at a time downloads it.

use crate::files::{is_unsupported, share_with_group};
use crate::soft_lock;
use rustix::io::Errno;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A lock that this process holds. Dropping it removes the file and releases the lock.
pub(crate) struct ContentLock {
    path: PathBuf,
    file: File,
}

impl ContentLock {
    /// Takes the lock at `path`; returns `None` if another process holds it. On a file system without
    /// locks, the existence of the file is the lock.
    ///
    /// # Errors
    /// The file cannot be written or locked.
    pub(crate) fn try_take(path: &Path) -> io::Result<Option<ContentLock>> {
        let (file, is_new) = match open(path) {
            // the holder removed it in the meantime
            Err(error) if error.kind() == io::ErrorKind::NotFound && has_folder(path) => {
                return Ok(None);
            }
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) if has_no_locks(&error) => {
                return ContentLock::by_existence(path, file, is_new);
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // if the previous holder removed the file in the meantime, no other process sees this lock
        let is_same = std::fs::metadata(path).is_ok_and(|other| {
            file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (other.dev(), other.ino()))
        });
        if !is_same {
            return Ok(None);
        }
        // some file systems grant all locks
        let (second, _) = open(path)?;
        if second.try_lock().is_ok() {
            return ContentLock::by_existence(path, file, is_new);
        }
        Ok(Some(ContentLock { path: path.to_owned(), file }))
    }

    /// Takes the lock by the existence of `file` at `path`, which this process has created if
    /// `is_new`.
    fn by_existence(path: &Path, file: File, is_new: bool) -> io::Result<Option<ContentLock>> {
        let held = if is_new { Some(soft_lock::hold(file)?) } else { soft_lock::try_take(path)? };
        Ok(held.map(|file| ContentLock { path: path.to_owned(), file }))
    }

    /// Updates the modification time of the lock file, so that waiting processes see that the holder
    /// makes progress.
    pub(crate) fn touch(&self) {
        // if this fails, other processes stop waiting too early, and report that
        let _ = self.file.set_modified(SystemTime::now());
    }
}

/// Opens the lock file, and returns whether it was created. A file of another user may be readable
/// only.
fn open(path: &Path) -> io::Result<(File, bool)> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => {
            share_with_group(path);
            return Ok((created?, true));
        }
    }
    let file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path),
        opened => opened,
    };
    Ok((file?, false))
}

fn has_folder(path: &Path) -> bool {
    path.parent().is_some_and(Path::is_dir)
}

/// Returns whether the file system does not support locks.
fn has_no_locks(error: &io::Error) -> bool {
    is_unsupported(error) || error.raw_os_error() == Some(Errno::NOLCK.raw_os_error())
}

impl Drop for ContentLock {
    fn drop(&mut self) {
        // a remaining file does no harm
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Returns the time at which a lock file was last touched. `None` if the file does not exist.
pub(crate) fn touched(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_file_system_without_locks_the_existing_file_is_the_lock() {
        for errno in [Errno::NOLCK, Errno::NOSYS, Errno::OPNOTSUPP] {
            assert!(has_no_locks(&errno.into()), "{errno}");
        }
        assert!(!has_no_locks(&Errno::IO.into()));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("content.lock");
        let take = || {
            let (file, is_new) = open(&path).expect("opened");
            ContentLock::by_existence(&path, file, is_new).expect("no error")
        };
        let lock = take().expect("the lock is free");
        assert!(take().is_none());
        drop(lock);
        assert!(take().is_some());
    }

    #[test]
    fn a_lock_has_one_holder_and_its_file_is_removed_on_release() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("content.lock");
        let lock = ContentLock::try_take(&path).expect("locks").expect("the lock is free");
        assert!(ContentLock::try_take(&path).expect("locks").is_none());
        lock.touch();
        assert!(touched(&path).is_some());
        drop(lock);
        assert_eq!(touched(&path), None);
        assert!(ContentLock::try_take(&path).expect("locks").is_some());
    }
}

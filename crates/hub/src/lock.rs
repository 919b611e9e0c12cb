//! The lock of a content in the cache, so that only one run or tool at a time downloads it.

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
    /// Takes the lock at `path`; returns `None` if another process holds it.
    ///
    /// # Errors
    /// The file cannot be written, or the file system has no locks.
    pub(crate) fn try_take(path: &Path) -> io::Result<Option<ContentLock>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
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
        let second = OpenOptions::new().write(true).open(path)?;
        if second.try_lock().is_ok() {
            return Err(Errno::NOLCK.into());
        }
        Ok(Some(ContentLock { path: path.to_owned(), file }))
    }

    /// Updates the modification time of the lock file, so that waiting processes see that the holder
    /// makes progress.
    pub(crate) fn touch(&self) {
        // if this fails, other processes stop waiting too early, and report that
        let _ = self.file.set_modified(SystemTime::now());
    }
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

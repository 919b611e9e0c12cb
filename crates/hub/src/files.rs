//! Writes, copies and moves of files that readers see completely or not at all; the permissions of
//! new files and folders; the age of files.

use crate::disk_error::{DiskError, failed};
use rustix::io::Errno;
use std::fs::{DirEntry, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tempfile::NamedTempFile;

/// The permissions of a new file, from which the operating system removes those of the umask.
const NEW_FILE_MODE: u32 = 0o666;
/// The permission of the group to write.
const GROUP_WRITE: u32 = 0o020;
/// The permissions that a file gets in a folder that its group can write.
const GROUP_FILE: u32 = 0o060;
/// The permissions that a folder gets in a folder that its group can write.
const GROUP_FOLDER: u32 = 0o070;

/// Replaces the file at `path` atomically: readers see either the old content or the new content.
///
/// # Errors
/// The file or its folder cannot be written; the error names the file and the operation.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content).map_err(|error| io::Error::new(error.source.kind(), error.to_string()))
}

/// Like [`write_atomically`], with an error that contains that of the operating system.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), DiskError> {
    let mut file = new_file_next_to(path)?;
    file.write_all(content).map_err(failed("write", path))?;
    persist(file, path)
}

/// Moves the file `from` to `to`. Copies it if they are on different file systems.
///
/// # Errors
/// A file or folder cannot be written.
pub(crate) fn move_file(from: &Path, to: &Path) -> Result<(), DiskError> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy_file(from, to)?;
            std::fs::remove_file(from).map_err(failed("remove", from))
        }
        result => result.map_err(failed("rename", to)),
    }
}

/// Copies the content of `from` to `to`, which appears when it is complete.
///
/// # Errors
/// A file or folder cannot be read or written.
pub(crate) fn copy_file(from: &Path, to: &Path) -> Result<(), DiskError> {
    let mut source = File::open(from).map_err(failed("open", from))?;
    let mut copy = new_file_next_to(to)?;
    io::copy(&mut source, copy.as_file_mut()).map_err(failed("copy", to))?;
    persist(copy, to)
}

/// Creates a temporary file in the folder of `path`.
fn new_file_next_to(path: &Path) -> Result<NamedTempFile, DiskError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // with the umask, and without a change of permissions, which some file systems refuse
    let permissions = Permissions::from_mode(NEW_FILE_MODE);
    let file =
        tempfile::Builder::new().prefix(".writing-").permissions(permissions).tempfile_in(folder);
    let file = file.map_err(failed("create", path))?;
    share_with_group(file.path());
    Ok(file)
}

/// Gives the complete temporary file its final name.
fn persist(file: NamedTempFile, path: &Path) -> Result<(), DiskError> {
    sync(file.as_file()).map_err(failed("fsync", path))?;
    file.persist(path).map_err(|error| failed("rename", path)(error.error))?;
    Ok(())
}

/// Writes the content of `file` to the disk, if the file system can do that.
///
/// # Errors
/// The disk cannot be written.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    match file.sync_data() {
        Err(error) if is_unsupported(&error) => Ok(()),
        result => result,
    }
}

/// Returns whether the file system does not have the operation that failed with `error`.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL))
}

/// Creates the folder at `path` and the folders above it.
///
/// # Errors
/// A folder cannot be created.
pub(crate) fn create_folder(path: &Path) -> Result<(), DiskError> {
    create_missing(path).map_err(failed("mkdir", path))
}

fn create_missing(path: &Path) -> io::Result<()> {
    if path.is_dir() || path.as_os_str().is_empty() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), create_missing)?;
    match std::fs::create_dir(path) {
        Ok(()) => share_with_group(path),
        // another process may have created it
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !path.is_dir() {
                return Err(Errno::NOTDIR.into());
            }
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Lets the group write the new file or folder at `path` if it can write the folder above: several
/// users then share these files. Does nothing on a file system that refuses changes of permissions.
pub(crate) fn share_with_group(path: &Path) {
    let mode = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.permissions().mode());
    let is_shared = |folder: &Path| mode(folder).is_ok_and(|mode| mode & GROUP_WRITE != 0);
    if !path.parent().is_some_and(is_shared) {
        return;
    }
    let added = if path.is_dir() { GROUP_FOLDER } else { GROUP_FILE };
    if let Ok(mode) = mode(path)
        && mode & added != added
    {
        let _ = std::fs::set_permissions(path, Permissions::from_mode(mode | added));
    }
}

/// Returns whether the last modification of `entry` is longer ago than `age`.
pub fn is_older(entry: &DirEntry, age: Duration) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|since| since > age))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777
    }

    #[test]
    fn a_replaced_file_has_the_permissions_of_a_new_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        for content in [&b"old"[..], b"new"] {
            write_atomically(&path, content).expect("written");
            assert_eq!(std::fs::read(&path).expect("read"), content);
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("entries").count(), 1);
        // a plain file shows the umask
        let plain = folder.path().join("plain");
        File::create(&plain).expect("created");
        assert_eq!(mode(&path), mode(&plain));
        let error = write_atomically(&folder.path().join("none/file"), b"").expect_err("no folder");
        assert!(error.to_string().contains("none/file: create failed: "), "{error}");
    }

    #[test]
    fn a_failed_replacement_leaves_no_temporary_file_and_names_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        // a folder cannot be replaced by a file
        let path = folder.path().join("report.json");
        std::fs::create_dir(&path).expect("created");
        let error = write_atomically(&path, b"{}").expect_err("a folder");
        assert!(error.to_string().contains("report.json: rename failed: "), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("entries").count(), 1);
    }

    #[test]
    fn new_files_and_folders_are_shared_with_the_group_of_a_shared_folder() {
        for (folder_mode, is_shared) in [(0o775, true), (0o700, false)] {
            let folder = tempfile::tempdir().expect("a folder");
            let permissions = Permissions::from_mode(folder_mode);
            std::fs::set_permissions(folder.path(), permissions).expect("changed");
            let inner = folder.path().join("a/b");
            create_folder(&inner).expect("created");
            let file = inner.join("file");
            replace(&file, b"text").expect("written");
            if is_shared {
                assert_eq!((mode(&inner) & 0o070, mode(&file) & 0o060), (0o070, 0o060));
            }
            // without sharing, the permissions are those of the umask
            let (plain, plain_folder) = (folder.path().join("plain"), folder.path().join("c"));
            File::create(&plain).expect("created");
            std::fs::create_dir(&plain_folder).expect("created");
            if !is_shared {
                assert_eq!((mode(&inner), mode(&file)), (mode(&plain_folder), mode(&plain)));
            }
        }
    }

    #[test]
    fn a_folder_below_a_file_is_reported_with_the_operation() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), "").expect("written");
        let error = create_folder(&folder.path().join("file/a/b")).expect_err("not a folder");
        assert!(error.to_string().contains("file/a/b: mkdir failed: Not a directory"), "{error}");
    }

    #[test]
    fn a_file_is_moved_to_another_file_system() {
        let folder = tempfile::tempdir().expect("a folder");
        // memory, which exists on Linux without a mount by root
        let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
        let device = |path: &Path| std::fs::metadata(path).expect("metadata").dev();
        let is_other = device(folder.path()) != device(other.path());
        let (from, to) = (folder.path().join("from"), other.path().join("to"));
        std::fs::write(&from, "content").expect("written");
        std::fs::write(&to, "old").expect("written");
        assert_eq!(std::fs::rename(&from, &to).is_err(), is_other);
        if is_other {
            move_file(&from, &to).expect("moved");
        }
        assert_eq!(std::fs::read(&to).expect("the content"), b"content");
        assert!(!from.exists());
        assert_eq!(std::fs::read_dir(other.path()).expect("entries").count(), 1);
    }
}

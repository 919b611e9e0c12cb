//! Atomic writes, and the age of files.

use std::fs::{DirEntry, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Replaces the file at `path` atomically: readers see either the old content or the new content.
///
/// # Errors
/// The file or its folder cannot be written; the error names the file.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        make_readable(file.as_file())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Makes the file readable for all users, because temporary files are created only for their owner.
fn make_readable(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o644))
}

/// Returns whether the last modification of `entry` is longer ago than `age`.
pub fn is_older(entry: &DirEntry, age: Duration) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|since| since > age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_readable_for_all_users() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        for content in [&b"old"[..], b"new"] {
            write_atomically(&path, content).expect("written");
            assert_eq!(std::fs::read(&path).expect("read"), content);
        }
        let mode = std::fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(folder.path()).expect("entries").count(), 1);
        let error = write_atomically(&folder.path().join("none/file"), b"").expect_err("no folder");
        assert!(error.to_string().contains("none/file"), "{error}");
    }
}

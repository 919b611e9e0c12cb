//! Selects a writable folder.

use std::io;
use std::path::{Path, PathBuf};

/// Returns the first of `folders` that can be written, and creates it if it does not exist.
///
/// # Errors
/// No folder can be written. The message lists each folder with the reason.
pub(super) fn first_writable(folders: &[PathBuf]) -> io::Result<&Path> {
    let mut reasons = Vec::new();
    for folder in folders {
        let attempt = std::fs::create_dir_all(folder)
            .and_then(|()| tempfile::Builder::new().prefix(".writable-").tempfile_in(folder));
        match attempt {
            Ok(_) => return Ok(folder),
            Err(error) => reasons.push(format!("{}: {error}", folder.display())),
        }
    }
    Err(io::Error::other(reasons.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn a_folder_that_is_not_writable_is_skipped() {
        let folder = TempDir::new().expect("a folder");
        // a file in place of the folder stops root too
        let blocked = folder.path().join("file/target");
        std::fs::write(folder.path().join("file"), "").expect("written");
        let usable = folder.path().join("free");
        let folders = [blocked.clone(), usable.clone()];
        assert_eq!(first_writable(&folders).expect("the second folder is writable"), usable);
        let error = first_writable(&folders[..1]).expect_err("no folder is writable").to_string();
        assert!(error.contains(&blocked.display().to_string()), "{error}");
    }
}

//! A folder that can be written.

use std::io;
use std::path::{Path, PathBuf};

/// Returns the first of `folders` that can be written; it is made if it does not exist.
///
/// # Errors
/// None can; the error names each, and why.
pub(super) fn writable(folders: &[PathBuf]) -> io::Result<&Path> {
    let mut reasons = Vec::new();
    for folder in folders {
        let tried = std::fs::create_dir_all(folder)
            .and_then(|()| tempfile::Builder::new().prefix(".writable-").tempfile_in(folder));
        match tried {
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
    fn a_folder_that_cannot_be_written_is_passed_over() {
        let folder = TempDir::new().expect("a folder");
        // a file in the way stops root as well
        let blocked = folder.path().join("file/target");
        std::fs::write(folder.path().join("file"), "").expect("written");
        let free = folder.path().join("free");
        let folders = [blocked.clone(), free.clone()];
        assert_eq!(writable(&folders).expect("the second"), free);
        let error = writable(&folders[..1]).expect_err("none").to_string();
        assert!(error.contains(&blocked.display().to_string()), "{error}");
    }
}

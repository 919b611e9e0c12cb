//! The names of the folders of builds, from their inputs: a different compute capability, CUDA
//! version or source is a different build.

use crate::nvidia::capability_digits;
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};

/// The files next to `src` and `crates` that affect a build.
const FILES: [&str; 6] = [
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    ".cargo/config.toml",
    "rust-toolchain",
    "rust-toolchain.toml",
];
/// The folders with the sources.
const FOLDERS: [&str; 2] = ["src", "crates"];
/// Names of folders inside [`FOLDERS`] that do not affect a program.
const NOT_BUILT: [&str; 4] = ["tests", "benches", "examples", "target"];

/// Returns the name of the folder for builds for the compute capability `capability` with the CUDA
/// version `cuda`: `sm_90-cuda-13.0` for `9.0` and `13.0`.
pub(super) fn toolchain(capability: &str, cuda: &str) -> String {
    format!("sm_{}-cuda-{cuda}", capability_digits(capability))
}

/// Returns a hash of the names and contents of the sources in `root`, in 16 hexadecimal digits.
///
/// # Errors
/// A file cannot be read; the error names it.
pub(super) fn sources(root: &Path) -> io::Result<String> {
    let mut files: Vec<PathBuf> =
        FILES.iter().map(|name| root.join(name)).filter(|path| path.is_file()).collect();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let content = std::fs::read(&path).map_err(|error| with_path(&path, &error))?;
        let name = path.strip_prefix(root).unwrap_or(&path).as_os_str().as_encoded_bytes();
        // lengths are hashed too, so that a name cannot be confused with the content of another
        // file
        for part in [name, &content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hex::encode(&hash.finalize()[..8]))
}

/// Appends the files in `folder` and its subfolders to `files`. A folder that does not exist has no
/// files.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| with_path(folder, &error))?,
    };
    for entry in entries {
        let entry = entry.map_err(|error| with_path(folder, &error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type().map_err(|error| with_path(&entry.path(), &error))?;
        if name.starts_with('.') {
            continue; // temporary files of editors
        }
        if kind.is_dir() {
            if !NOT_BUILT.contains(&&*name) {
                collect(&entry.path(), files)?;
            }
        } else if entry.path().is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Adds the path to the message of an error.
fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, content).expect("written");
    }

    #[test]
    fn the_toolchain_names_capability_and_cuda() {
        assert_eq!(toolchain("9.0", "13.0"), "sm_90-cuda-13.0");
        assert_eq!(toolchain("12.0", "12.8"), "sm_120-cuda-12.8");
    }

    #[test]
    fn only_files_of_the_build_change_the_hash() {
        let folder = TempDir::new().expect("a folder");
        let root = folder.path();
        write(root, "Cargo.toml", "[package]");
        write(root, "src/lib.rs", "//! a");
        let mut last = sources(root).expect("hashed");
        let hashed = [
            ("src/lib.rs", "//! b"),
            ("src/bin/worker.rs", ""),
            ("Cargo.lock", "version = 4"),
            ("Cargo.toml", "[workspace]"),
            ("crates/engine/Cargo.toml", ""),
            ("crates/engine/build.rs", ""),
            ("crates/engine/src/kernels/rope.cu", ""),
            ("crates/engine/kernels/rope.cuh", ""),
            (".cargo/config.toml", ""),
        ];
        for (path, content) in hashed {
            write(root, path, content);
            let next = sources(root).expect("hashed");
            assert_ne!(next, last, "{path}");
            last = next;
        }
        let ignored =
            ["tests/suite_product/main.rs", "crates/engine/tests/a.rs", "fixtures/models.toml"];
        for path in ignored.into_iter().chain(["src/.lib.rs.swp", "README.md", "target/x.rs"]) {
            write(root, path, "changed");
            assert_eq!(sources(root).expect("hashed"), last, "{path}");
        }
    }

    #[test]
    fn the_hash_separates_names_and_contents() {
        let (one, other) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
        write(one.path(), "src/a", "b");
        write(other.path(), "src/ab", "");
        let hash = |folder: &TempDir| sources(folder.path()).expect("hashed");
        assert_ne!(hash(&one), hash(&other));
    }

    /// If a crate of the worker embedded a file from another folder, that file would have to be
    /// hashed too.
    #[test]
    fn the_worker_embeds_no_file_from_outside_its_sources() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut files = Vec::new();
        for part in ["src/bin", "crates/engine", "crates/model", "crates/protocol"] {
            collect(&root.join(part), &mut files).expect("listed");
        }
        assert!(files.len() > 30, "{files:?}");
        for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
            let text = std::fs::read_to_string(path).expect("read");
            for line in text.lines().filter(|line| line.contains("include_")) {
                let inside = !line.contains("../../..") || line.contains("Cargo.lock");
                assert!(inside, "{}: {line}", path.display());
            }
        }
    }
}

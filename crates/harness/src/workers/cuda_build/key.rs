//! What a build depends on, as a name: another compute capability, another CUDA or other sources
//! are another build.

use crate::nvidia::capability_digits;
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};

/// Files beside `src` and `crates` that decide what is built.
const FILES: [&str; 6] = [
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    ".cargo/config.toml",
    "rust-toolchain",
    "rust-toolchain.toml",
];
/// Folders of sources.
const FOLDERS: [&str; 2] = ["src", "crates"];
/// Folders inside them that no program is built from.
const NOT_BUILT: [&str; 4] = ["tests", "benches", "examples", "target"];

/// The name of the folder for builds of `capability`, such as `9.0`, by CUDA `cuda`.
pub(super) fn toolchain(capability: &str, cuda: &str) -> String {
    format!("sm_{}-cuda-{cuda}", capability_digits(capability))
}

/// A hash of the sources in `root`: names and contents.
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
        let content = std::fs::read(&path).map_err(|error| named(&path, &error))?;
        let name = path.strip_prefix(root).unwrap_or(&path).as_os_str().as_encoded_bytes();
        // lengths, so that no name can be read as another file's content
        for part in [name, &content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hex::encode(&hash.finalize()[..8]))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| named(folder, &error))?,
    };
    for entry in entries {
        let entry = entry.map_err(|error| named(folder, &error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type().map_err(|error| named(&entry.path(), &error))?;
        if name.starts_with('.') {
            continue; // what editors leave
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

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, content).expect("written");
    }

    #[test]
    fn the_toolchain_names_capability_and_cuda() {
        assert_eq!(toolchain("9.0", "13.0"), "sm_90-cuda-13.0");
        assert_eq!(toolchain("12.0", "12.8"), "sm_120-cuda-12.8");
    }

    #[test]
    fn what_is_built_counts_and_nothing_else() {
        let folder = TempDir::new().expect("a folder");
        let root = folder.path();
        write(root, "Cargo.toml", "[package]");
        write(root, "src/lib.rs", "//! a");
        let mut last = sources(root).expect("hashed");
        let counts = [
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
        for (path, content) in counts {
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
    fn a_name_is_not_a_content() {
        let (one, other) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
        write(one.path(), "src/a", "b");
        write(other.path(), "src/ab", "");
        let hash = |folder: &TempDir| sources(folder.path()).expect("hashed");
        assert_ne!(hash(&one), hash(&other));
    }

    /// The worker's crates are these; a file that one of them takes in from elsewhere would have
    /// to be hashed too.
    #[test]
    fn the_worker_embeds_nothing_from_outside_its_sources() {
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

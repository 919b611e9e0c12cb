//! Where a worker is built from, and where to.

use crate::env::{self, Variables};
use std::io;
use std::path::{Path, PathBuf};

/// The package whose worker is built.
const PACKAGE: &str = "modelgate";
/// The folder for builds, below a target folder or the user's cache.
const FOLDER: &str = "cuda-worker";

/// The folder of this package's sources: where cargo or nextest say, at run time, else a folder
/// above the running program `exe`. The path that the compiler saw is not asked: it may be on
/// another host.
pub(super) fn sources(package_dir: Option<&Path>, exe: &Path) -> Option<PathBuf> {
    package_dir
        .into_iter()
        .chain(exe.ancestors().skip(1))
        .find(|f| is_package(f))
        .map(Path::to_owned)
}

fn is_package(folder: &Path) -> bool {
    let name = || -> Option<String> {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).ok()?;
        let manifest: toml::Table = manifest.parse().ok()?;
        Some(manifest.get("package")?.get("name")?.as_str()?.to_owned())
    };
    folder.join("Cargo.lock").is_file() && name().as_deref() == Some(PACKAGE)
}

/// Folders for builds, in the order of preference: below the target folder that the running
/// program `exe` is in, then the user's cache.
pub(super) fn folders(exe: &Path, variables: &Variables) -> Vec<PathBuf> {
    let deps = exe.parent().filter(|folder| folder.ends_with("deps"));
    let target = deps.and_then(Path::parent).and_then(Path::parent).map(|dir| dir.join(FOLDER));
    let cache = match variables.get(env::XDG_CACHE_HOME) {
        Some(cache) => Some(PathBuf::from(cache)),
        None => variables.get(env::HOME).map(|home| Path::new(home).join(".cache")),
    };
    target.into_iter().chain(cache.map(|cache| cache.join(PACKAGE).join(FOLDER))).collect()
}

/// The first of `folders` that can be written, made if it is not there.
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

    fn variables(all: &[(&str, &str)]) -> Variables {
        let mut variables = Variables::default();
        for (name, value) in all {
            variables.set(name, value);
        }
        variables
    }

    #[test]
    fn builds_go_below_the_target_folder_and_else_to_the_user_s_cache() {
        let exe = Path::new("/w/target/release/deps/models-0123");
        let home = variables(&[("HOME", "/home/u")]);
        let cache = Path::new("/home/u/.cache/modelgate/cuda-worker");
        assert_eq!(folders(exe, &home), [Path::new("/w/target/cuda-worker"), cache]);
        assert_eq!(folders(Path::new("/elsewhere/models"), &home), [cache]);
        let xdg = variables(&[("HOME", "/home/u"), ("XDG_CACHE_HOME", "/c")]);
        let other = Path::new("/c/modelgate/cuda-worker");
        assert_eq!(folders(Path::new("/elsewhere/models"), &xdg), [other]);
    }

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

    #[test]
    fn sources_are_found_by_the_tools_word_or_above_the_program() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let nowhere = Path::new("/nowhere/models");
        assert_eq!(sources(Some(here), nowhere).as_deref(), Some(here));
        let exe = here.join("target/release/deps/models-0123");
        assert_eq!(sources(None, &exe).as_deref(), Some(here));
        assert_eq!(sources(None, nowhere), None);
        let other = here.join("crates/model");
        assert_eq!(sources(Some(&other), nowhere), None, "another package");
    }
}

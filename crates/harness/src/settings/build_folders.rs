//! The source folder and the target folders for building a worker with CUDA: the same for the test
//! runner and for an installed program, so that one worker serves both.

use super::Environment;
use super::variables::XDG_CACHE_HOME;
use std::path::{Path, PathBuf};

/// The package that contains the worker.
const PACKAGE: &str = "modelgate";
/// The folder for builds, below a target folder or the cache of the user.
const FOLDER: &str = "cuda-worker";
/// The file with which cargo marks its target folder.
const TARGET_MARKER_FILE: &str = ".rustc_info.json";
/// The source folder at compile time. On another host, it may not exist or belong to another
/// package.
const COMPILED_FROM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Returns the folder of the sources of this package: the one that cargo or nextest report at run
/// time, otherwise a folder above the running program `exe`, otherwise the folder at compile time.
pub(super) fn sources(package_dir: Option<&Path>, exe: &Path) -> Option<PathBuf> {
    let compiled_from = std::fs::canonicalize(COMPILED_FROM).ok();
    package_dir
        .into_iter()
        .chain(exe.ancestors().skip(1))
        .chain(compiled_from.as_deref())
        .find(|folder| is_package(folder))
        .map(Path::to_owned)
}

/// Returns whether `folder` contains the sources of this package.
fn is_package(folder: &Path) -> bool {
    let name = || -> Option<String> {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).ok()?;
        let manifest: toml::Table = manifest.parse().ok()?;
        Some(manifest.get("package")?.get("name")?.as_str()?.to_owned())
    };
    folder.join("Cargo.lock").is_file() && name().as_deref() == Some(PACKAGE)
}

/// Returns the folders for builds, in the order of preference: below the target folder that
/// contains the running program, below the target folder of the sources, in the cache of the user.
pub(super) fn folders(package_dir: Option<&Path>, environment: &Environment) -> Vec<PathBuf> {
    let exe = &environment.exe;
    let own_target =
        exe.ancestors().skip(1).find(|folder| folder.join(TARGET_MARKER_FILE).is_file());
    let of_sources = sources(package_dir, exe).map(|sources| sources.join("target"));
    let variables = &environment.variables;
    let cache = match variables.get(XDG_CACHE_HOME) {
        Some(cache) => Some(PathBuf::from(cache)),
        None => variables.home().map(|home| home.join(".cache")),
    };
    let targets = own_target.map(Path::to_owned).into_iter().chain(of_sources);
    let mut folders: Vec<PathBuf> = targets.map(|target| target.join(FOLDER)).collect();
    folders.dedup();
    folders.extend(cache.map(|cache| cache.join(PACKAGE).join(FOLDER)));
    folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::variables::HOME;
    use tempfile::TempDir;

    /// Creates a package with this name and a target folder.
    fn create_package(name: &str) -> TempDir {
        let folder = TempDir::new().expect("a folder");
        let text = format!("[package]\nname = \"{name}\"\n");
        std::fs::write(folder.path().join("Cargo.toml"), text).expect("written");
        std::fs::write(folder.path().join("Cargo.lock"), "version = 4\n").expect("written");
        std::fs::create_dir(folder.path().join("target")).expect("created");
        std::fs::write(folder.path().join("target").join(TARGET_MARKER_FILE), "{}")
            .expect("written");
        folder
    }

    fn environment(exe: &Path) -> Environment {
        let mut environment = Environment { exe: exe.to_owned(), ..Environment::default() };
        environment.variables.set(HOME, "/home/u");
        environment
    }

    #[test]
    fn tests_and_installed_programs_build_in_the_same_folder() {
        let package = create_package("modelgate");
        let expected = package.path().join("target/cuda-worker");
        let cache = Path::new("/home/u/.cache/modelgate/cuda-worker");
        for exe in ["target/release/deps/models-0123", "target/release/modelgate"] {
            let environment = environment(&package.path().join(exe));
            assert_eq!(folders(None, &environment), [expected.as_path(), cache], "{exe}");
        }
        let installed = environment(Path::new("/usr/local/bin/modelgate"));
        assert_eq!(folders(Some(package.path()), &installed), [expected.as_path(), cache]);
        let mut xdg = installed.clone();
        xdg.variables.set(XDG_CACHE_HOME, "/c");
        let found = folders(Some(package.path()), &xdg);
        assert_eq!(found.last().map(PathBuf::as_path), Some(Path::new("/c/modelgate/cuda-worker")));
    }

    #[test]
    fn sources_are_found_by_variable_above_the_program_or_at_the_compile_time_path() {
        let here = std::fs::canonicalize(COMPILED_FROM).expect("the repository");
        let package = create_package("modelgate");
        let nowhere = Path::new("/nowhere/models");
        assert_eq!(sources(Some(package.path()), nowhere).as_deref(), Some(package.path()));
        let exe = package.path().join("target/release/deps/models-0123");
        assert_eq!(sources(None, &exe).as_deref(), Some(package.path()));
        assert_eq!(sources(None, nowhere), Some(here.clone()), "an installed program");
        let other = create_package("other");
        assert_eq!(sources(Some(other.path()), nowhere), Some(here), "another package");
    }
}

//! CUDA's compiler on this host, and the libraries that come with it.

use crate::process::{self, NoAnswer};
use crate::settings::variables::{CUDA_FOLDERS, NVCC, PATH};
use crate::signal::{self, Interrupt};
use modelgate_hub::Variables;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The compiler's name.
const NAME: &str = "nvcc";
/// The time for the compiler to say its version.
const LIMIT: Duration = Duration::from_secs(30);
/// The most bytes that it prints for that.
const MAX_ANSWER_BYTES: usize = 16 << 10;
/// A library that every toolkit has, and every worker with CUDA needs.
const RUNTIME: &str = "libcudart.so";

/// An installed compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nvcc {
    /// The program.
    pub(super) program: PathBuf,
    /// CUDA's version, such as `13.0`.
    pub(super) version: String,
    /// The toolkit's folder.
    pub(super) root: PathBuf,
}

impl Nvcc {
    /// Finds it where the kernels' build scripts do: `NVCC`, `PATH`, the variables that name a
    /// toolkit, then the toolkit at `usual`.
    ///
    /// # Errors
    /// It is nowhere, or does not tell its version; the message says where was looked.
    pub(super) fn find(
        variables: &Variables,
        usual: &Path,
        interrupt: &Interrupt,
    ) -> Result<Nvcc, String> {
        let named = variables.get(NVCC).map(PathBuf::from);
        let path = variables.get(PATH).unwrap_or_default();
        let in_path = std::env::split_paths(path).map(|folder| folder.join(NAME));
        let toolkits = CUDA_FOLDERS.iter().filter_map(|name| variables.get(name));
        let in_toolkits =
            toolkits.map(Path::new).chain([usual]).map(|folder| folder.join("bin").join(NAME));
        let program = named
            .into_iter()
            .chain(in_path)
            .chain(in_toolkits)
            .find(|place| place.is_file())
            .ok_or_else(|| {
                format!(
                    "{NAME}, CUDA's compiler, is not in PATH, $CUDA_HOME/bin, $CUDA_PATH/bin or \
                     {}",
                    usual.join("bin").display()
                )
            })?;
        let version = version(&program, variables, interrupt)?;
        // a link in a folder of programs leads to the toolkit
        let real = program.canonicalize().unwrap_or_else(|_| program.clone());
        let root = real.ancestors().nth(2).unwrap_or(Path::new("/")).to_owned();
        Ok(Nvcc { program, version, root })
    }

    /// The folder of the libraries that programs need at run time; `None` if they are with the
    /// system's.
    pub(super) fn libraries(&self) -> Option<PathBuf> {
        self.library_folders().find(|folder| has_runtime(folder))
    }

    /// Folders for the linker. A host without the driver's development files has a stub of
    /// libcuda in the toolkit.
    pub(super) fn link_path(&self) -> Option<OsString> {
        let folder = self.libraries()?;
        let folders = [folder.clone(), folder.join("stubs")];
        std::env::join_paths(folders.iter().filter(|folder| folder.is_dir())).ok()
    }

    fn library_folders(&self) -> impl Iterator<Item = PathBuf> {
        let arch = if cfg!(target_arch = "aarch64") { "sbsa" } else { std::env::consts::ARCH };
        ["lib64".to_owned(), "lib".to_owned(), format!("targets/{arch}-linux/lib")]
            .into_iter()
            .map(|folder| self.root.join(folder))
    }

    /// Whether the kernels that this compiler makes are too new for a driver that knows CUDA up
    /// to `driver`: a driver does not read the intermediate code of a later toolkit.
    pub(super) fn is_newer_than(&self, driver: &str) -> bool {
        match (numbers(&self.version), numbers(driver)) {
            (Some(own), Some(driver)) => own > driver,
            _ => false,
        }
    }
}

fn has_runtime(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(RUNTIME))
    })
}

fn version(program: &Path, variables: &Variables, interrupt: &Interrupt) -> Result<String, String> {
    let shown = program.display();
    let secrets = variables.secret_names();
    let mut command = Command::new(program);
    let inherited = variables.iter().filter(|(name, _)| !secrets.contains(name));
    command.arg("--version").env_clear().envs(inherited);
    let answer = process::ask(command, LIMIT, MAX_ANSWER_BYTES, interrupt);
    let answer = answer.map_err(|reason| match reason {
        NoAnswer::NotStarted(error) => format!("{shown} cannot be started: {error}"),
        NoAnswer::TooLate => {
            format!("{shown} --version did not end within {} s", LIMIT.as_secs())
        }
        NoAnswer::Interrupted(signal) => format!("{} ended the run", signal::name(signal)),
    })?;
    release(&answer.stdout).ok_or_else(|| {
        let status = answer.status.map_or("unknown".to_owned(), |status| status.to_string());
        format!("{shown} --version ({status}) names no release of CUDA: {}", answer.stdout.trim())
    })
}

/// The release in what the compiler prints: `Cuda compilation tools, release 13.0, V13.0.88`.
fn release(text: &str) -> Option<String> {
    let release = text.split("release ").nth(1)?.split([',', '\n']).next()?.trim();
    numbers(release).map(|_| release.to_owned())
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    fn toolkit(version: &str) -> TempDir {
        let folder = TempDir::new().expect("a folder");
        std::fs::create_dir(folder.path().join("bin")).expect("made");
        let program = folder.path().join("bin/nvcc");
        let text = format!(
            "#!/bin/sh\necho 'nvcc: NVIDIA (R) Cuda compiler driver'\n\
             echo 'Cuda compilation tools, release {version}, V{version}.88'\n"
        );
        std::fs::write(&program, text).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("set");
        folder
    }

    fn find(all: &[(&str, &Path)]) -> Result<Nvcc, String> {
        let mut variables = Variables::default();
        for (name, value) in all {
            variables.set(name, value.as_os_str());
        }
        Nvcc::find(&variables, Path::new("/nowhere"), &Interrupt::default())
    }

    #[test]
    fn it_is_found_in_the_order_of_the_kernels_build_scripts() {
        let (first, second, third) = (toolkit("13.0"), toolkit("12.8"), toolkit("12.4"));
        let path = first.path().join("bin");
        let all = [("CUDA_PATH", third.path()), ("CUDA_HOME", second.path()), ("PATH", &path)];
        for (count, version) in [(3, "13.0"), (2, "12.8"), (1, "12.4")] {
            let nvcc = find(&all[..count]).expect("found");
            assert_eq!(nvcc.version, version);
        }
        let named = second.path().join("bin/nvcc");
        let nvcc = find(&[("NVCC", &named), ("PATH", &path)]).expect("found");
        assert_eq!(nvcc.version, "12.8");
    }

    #[test]
    fn libraries_are_those_beside_the_compiler_that_a_link_leads_to() {
        let toolkit = toolkit("13.0");
        let links = TempDir::new().expect("a folder");
        let program = toolkit.path().join("bin/nvcc");
        std::os::unix::fs::symlink(program, links.path().join("nvcc")).expect("linked");
        let nvcc = find(&[("PATH", links.path())]).expect("found");
        assert_eq!(nvcc.libraries(), None);
        assert_eq!(nvcc.link_path(), None);
        let lib = toolkit.path().canonicalize().expect("a path").join("lib");
        std::fs::create_dir_all(lib.join("stubs")).expect("made");
        std::fs::write(lib.join("libcudart.so.13"), "").expect("written");
        assert_eq!(nvcc.libraries(), Some(lib.clone()));
        let expected = format!("{0}:{0}/stubs", lib.display());
        assert_eq!(nvcc.link_path(), Some(expected.into()));
    }

    #[test]
    fn what_names_no_release_is_no_compiler() {
        let toolkit = toolkit("unknown");
        let error = find(&[("CUDA_HOME", toolkit.path())]).expect_err("refused");
        assert!(error.contains("names no release of CUDA"), "{error}");
    }

    #[test]
    fn a_driver_reads_what_is_not_newer() {
        let nvcc = |version: &str| Nvcc {
            program: "nvcc".into(),
            version: version.into(),
            root: "/".into(),
        };
        assert!(nvcc("13.0").is_newer_than("12.9"));
        assert!(nvcc("12.10").is_newer_than("12.9"));
        assert!(!nvcc("12.8").is_newer_than("13.0"));
        assert!(!nvcc("13.0").is_newer_than("13.0"));
        assert!(!nvcc("13.0").is_newer_than("unknown"));
    }
}

//! The CUDA compiler of this host, with its libraries.

use crate::process::{self, RunError};
use crate::settings::variables::{CUDA_FOLDERS, NVCC, PATH};
use crate::signal::{self, Interrupt};
use modelgate_hub::Variables;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The name of the compiler program.
const NAME: &str = "nvcc";
/// How long the compiler may take to print its version.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The maximum length of that output in bytes.
const MAX_OUTPUT_BYTES: usize = 16 << 10;
/// The start of the file name of a library that every toolkit contains and every worker with CUDA
/// needs.
const RUNTIME_LIBRARY: &str = "libcudart.so";

/// An installed CUDA compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nvcc {
    /// The path of the compiler.
    pub(super) program: PathBuf,
    /// The version of CUDA, such as `13.0`.
    pub(super) version: String,
    /// The folder of the toolkit.
    pub(super) root: PathBuf,
}

/// The reason why there is no usable compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NvccError {
    /// No folder contains a compiler. The message lists the searched folders.
    NotFound(String),
    /// The compiler does not print its version, for this reason.
    Failed(String),
    /// The signal with this number ended the search.
    Interrupted(i32),
}

impl Nvcc {
    /// Finds the compiler in the order of the build scripts of the kernels: `NVCC`, `PATH`, the
    /// variables that name a toolkit, then the toolkit in the folder `default_toolkit`.
    ///
    /// # Errors
    /// There is no compiler, it does not print its version, or a signal arrived.
    pub(super) fn find(
        variables: &Variables,
        default_toolkit: &Path,
        interrupt: &Interrupt,
    ) -> Result<Nvcc, NvccError> {
        let named = variables.get(NVCC).map(PathBuf::from);
        let path = variables.get(PATH).unwrap_or_default();
        let in_path = std::env::split_paths(path).map(|folder| folder.join(NAME));
        let toolkits = CUDA_FOLDERS.iter().filter_map(|name| variables.get(name));
        let in_toolkits = toolkits
            .map(Path::new)
            .chain([default_toolkit])
            .map(|folder| folder.join("bin").join(NAME));
        let program = named
            .into_iter()
            .chain(in_path)
            .chain(in_toolkits)
            .find(|path| path.is_file())
            .ok_or_else(|| {
                NvccError::NotFound(format!(
                    "the CUDA compiler {NAME} is not in PATH, $CUDA_HOME/bin, $CUDA_PATH/bin or \
                     {}",
                    default_toolkit.join("bin").display()
                ))
            })?;
        let version = version(&program, variables, interrupt)?;
        // the program in PATH may be a symlink into the toolkit
        let real = program.canonicalize().unwrap_or_else(|_| program.clone());
        let root = real.ancestors().nth(2).unwrap_or(Path::new("/")).to_owned();
        Ok(Nvcc { program, version, root })
    }

    /// Returns the folder of the libraries that programs need at run time. `None` if the toolkit
    /// does not contain them, because they are system libraries.
    pub(super) fn libraries(&self) -> Option<PathBuf> {
        self.library_folders().find(|folder| has_runtime(folder))
    }

    /// Returns the search path of the linker. It contains the stub of libcuda in the toolkit, which
    /// a host without the development files of the driver needs. `None` if the toolkit has no
    /// libraries.
    pub(super) fn link_path(&self) -> Option<OsString> {
        let folder = self.libraries()?;
        let folders = [folder.clone(), folder.join("stubs")];
        std::env::join_paths(folders.iter().filter(|folder| folder.is_dir())).ok()
    }

    /// Returns the possible folders of the libraries.
    fn library_folders(&self) -> impl Iterator<Item = PathBuf> {
        let arch = if cfg!(target_arch = "aarch64") { "sbsa" } else { std::env::consts::ARCH };
        ["lib64".to_owned(), "lib".to_owned(), format!("targets/{arch}-linux/lib")]
            .into_iter()
            .map(|folder| self.root.join(folder))
    }

    /// Returns whether a driver that supports CUDA up to `driver_cuda` refuses the kernels of this
    /// compiler: a driver does not read the PTX of a later toolkit.
    pub(super) fn is_newer_than(&self, driver_cuda: &str) -> bool {
        match (numbers(&self.version), numbers(driver_cuda)) {
            (Some(own), Some(driver)) => own > driver,
            _ => false,
        }
    }
}

/// Returns whether the folder contains the CUDA runtime library.
fn has_runtime(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(RUNTIME_LIBRARY))
    })
}

/// Runs the compiler, and returns its version.
fn version(
    program: &Path,
    variables: &Variables,
    interrupt: &Interrupt,
) -> Result<String, NvccError> {
    let shown = program.display();
    let secrets = variables.secret_names();
    let mut command = Command::new(program);
    let inherited = variables.iter().filter(|(name, _)| !secrets.contains(name));
    command.arg("--version").env_clear().envs(inherited);
    let output = process::run(command, TIME_LIMIT, MAX_OUTPUT_BYTES, interrupt);
    let output = output.map_err(|reason| match reason {
        RunError::NotStarted(error) => {
            NvccError::Failed(format!("{shown} cannot be started: {error}"))
        }
        RunError::TimedOut => NvccError::Failed(format!(
            "`{shown} --version` did not exit within {} s",
            TIME_LIMIT.as_secs()
        )),
        RunError::Interrupted(signal) => NvccError::Interrupted(signal),
    })?;
    release(&output.stdout).ok_or_else(|| {
        if let Some(signal) = output.status.and_then(|status| status.signal()) {
            let name = signal::name(signal);
            return NvccError::Failed(format!("`{shown} --version` was killed by {name}"));
        }
        let status = output.status.map_or("unknown".to_owned(), |status| status.to_string());
        NvccError::Failed(format!(
            "`{shown} --version` ({status}): expected a CUDA release in the output, found {:?}",
            output.stdout.trim()
        ))
    })
}

/// Returns the release in the output of the compiler, such as `13.0` from `Cuda compilation tools,
/// release 13.0, V13.0.88`.
fn release(text: &str) -> Option<String> {
    let release = text.split("release ").nth(1)?.split([',', '\n']).next()?.trim();
    numbers(release).map(|_| release.to_owned())
}

/// Returns the major and minor number of a version.
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
        toolkit_with(&format!(
            "echo 'nvcc: NVIDIA (R) Cuda compiler driver'\n\
             echo 'Cuda compilation tools, release {version}, V{version}.88'\n"
        ))
    }

    /// Creates a toolkit whose compiler is this shell script.
    fn toolkit_with(script: &str) -> TempDir {
        let folder = TempDir::new().expect("a folder");
        std::fs::create_dir(folder.path().join("bin")).expect("created");
        let program = folder.path().join("bin/nvcc");
        let text = format!("#!/bin/sh\n{script}");
        std::fs::write(&program, text).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("set");
        folder
    }

    fn find(variables_set: &[(&str, &Path)]) -> Result<Nvcc, NvccError> {
        let mut variables = Variables::default();
        for (name, value) in variables_set {
            variables.set(name, value.as_os_str());
        }
        Nvcc::find(&variables, Path::new("/nowhere"), &Interrupt::default())
    }

    #[test]
    fn the_compiler_is_found_in_the_order_of_the_build_scripts() {
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
    fn libraries_are_found_next_to_the_target_of_a_symlink() {
        let toolkit = toolkit("13.0");
        let links = TempDir::new().expect("a folder");
        let program = toolkit.path().join("bin/nvcc");
        std::os::unix::fs::symlink(program, links.path().join("nvcc")).expect("linked");
        let nvcc = find(&[("PATH", links.path())]).expect("found");
        assert_eq!(nvcc.libraries(), None);
        assert_eq!(nvcc.link_path(), None);
        let lib = toolkit.path().canonicalize().expect("a path").join("lib");
        std::fs::create_dir_all(lib.join("stubs")).expect("created");
        std::fs::write(lib.join("libcudart.so.13"), "").expect("written");
        assert_eq!(nvcc.libraries(), Some(lib.clone()));
        let expected = format!("{0}:{0}/stubs", lib.display());
        assert_eq!(nvcc.link_path(), Some(expected.into()));
    }

    #[test]
    fn a_program_without_a_release_is_not_a_compiler() {
        let toolkit = toolkit("unknown");
        match find(&[("CUDA_HOME", toolkit.path())]).expect_err("refused") {
            NvccError::Failed(reason) => {
                assert!(reason.contains("expected a CUDA release"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        let error = find(&[]).expect_err("no compiler");
        assert!(
            matches!(&error, NvccError::NotFound(text) if text.contains("/nowhere/bin")),
            "{error:?}"
        );
    }

    #[test]
    fn a_compiler_that_a_signal_killed_is_not_a_missing_compiler() {
        let toolkit = toolkit_with("kill -9 $$\n");
        let program = toolkit.path().join("bin/nvcc");
        let expected = format!("`{} --version` was killed by SIGKILL", program.display());
        let error = find(&[("CUDA_HOME", toolkit.path())]).expect_err("killed");
        assert_eq!(error, NvccError::Failed(expected));
    }

    #[test]
    fn a_signal_during_the_search_is_an_interruption() {
        let toolkit = toolkit_with("sleep 60\n");
        let mut variables = Variables::default();
        variables.set("CUDA_HOME", toolkit.path().as_os_str());
        let error = Nvcc::find(&variables, Path::new("/nowhere"), &Interrupt::after(2));
        assert_eq!(error, Err(NvccError::Interrupted(2)));
    }

    #[test]
    fn a_toolkit_is_newer_than_a_driver_with_a_lower_version() {
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

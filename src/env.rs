//! Every environment variable that modelgate reads, and nothing else. Read once, at the start.

use std::ffi::OsString;
use std::path::PathBuf;

/// Another manifest (a path).
pub const MANIFEST: &str = "MODELGATE_MANIFEST";
/// The folder that reports go to.
pub const REPORT_DIR: &str = "MODELGATE_REPORT_DIR";
/// What the device `auto` means: `cpu` or `cuda:N`.
pub const DEVICE: &str = "MODELGATE_DEVICE";
/// A worker built elsewhere.
pub const WORKER: &str = "MODELGATE_WORKER";
/// Set by continuous-integration services: a filter that selects nothing is then a failure.
pub const CI: &str = "CI";
/// Set: no colours.
pub const NO_COLOR: &str = "NO_COLOR";
/// The run that this process is part of, under nextest.
pub const NEXTEST_RUN_ID: &str = "NEXTEST_RUN_ID";
/// Which attempt this is, under nextest; 1 for the first.
pub const NEXTEST_ATTEMPT: &str = "NEXTEST_ATTEMPT";
/// Where nextest says that the worker is.
pub const NEXTEST_WORKER: [&str; 2] =
    ["NEXTEST_BIN_EXE_modelgate_worker", "NEXTEST_BIN_EXE_modelgate-worker"];
/// Where cargo says that the worker is.
pub const CARGO_WORKER: &str = "CARGO_BIN_EXE_modelgate-worker";
/// The package's folder, set by cargo and nextest while tests run.
pub const CARGO_MANIFEST_DIR: &str = "CARGO_MANIFEST_DIR";

/// What the environment asks for.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// [`MANIFEST`].
    pub manifest: Option<PathBuf>,
    /// [`REPORT_DIR`].
    pub report_dir: Option<PathBuf>,
    /// [`DEVICE`].
    pub device: Option<OsString>,
    /// [`WORKER`].
    pub worker: Option<PathBuf>,
    /// [`CI`] is set, and neither empty nor `false`.
    pub ci: bool,
    /// [`NO_COLOR`] is set.
    pub no_color: bool,
    /// [`NEXTEST_RUN_ID`].
    pub nextest_run_id: Option<String>,
    /// [`NEXTEST_ATTEMPT`].
    pub attempt: u32,
    /// Where the build tools say that the worker is.
    pub built_worker: Option<PathBuf>,
    /// The folder that the default report folder is in.
    pub package_dir: Option<PathBuf>,
}

impl Environment {
    /// Reads the process's environment.
    pub fn from_process() -> Environment {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Environment {
            manifest: set(MANIFEST).map(PathBuf::from),
            report_dir: set(REPORT_DIR).map(PathBuf::from),
            device: set(DEVICE),
            worker: set(WORKER).map(PathBuf::from),
            ci: set(CI).is_some_and(|value| value != "false" && value != "0"),
            no_color: set(NO_COLOR).is_some(),
            nextest_run_id: set(NEXTEST_RUN_ID).and_then(|id| id.into_string().ok()),
            attempt: set(NEXTEST_ATTEMPT)
                .and_then(|n| n.to_str().and_then(|n| n.parse().ok()))
                .unwrap_or(1),
            built_worker: NEXTEST_WORKER
                .iter()
                .find_map(|name| set(name))
                .or_else(|| set(CARGO_WORKER))
                .map(PathBuf::from),
            package_dir: set(CARGO_MANIFEST_DIR).map(PathBuf::from),
        }
    }
}

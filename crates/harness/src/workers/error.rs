//! Why there is no worker for a model.

use super::built::WORKER_NAME;
use super::missing_library::MissingLibrary;
use crate::nvidia::capability_digits;
use crate::reportable::Reportable;
use crate::settings::variables::{BUILD, CUDA_COMPUTE_CAP, NEVER, WORKER};
use crate::signal;
use modelgate_protocol::{FailureKind, TELL_ENGINE};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why there is no worker for a model.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// `MODELGATE_WORKER` names no file.
    #[error("{WORKER}={}: no such file", _0.display())]
    NamedNotFound(PathBuf),
    /// The worker that was built with this program is in none of these places.
    #[error("the worker program was not found; looked for {}", list(_0))]
    NotFound(Vec<PathBuf>),
    /// The operating system does not start the program.
    #[error("{}: the worker cannot be started: {source}", program.display())]
    NotStarted {
        /// The worker.
        program: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The loader does not find a library of the program.
    #[error(transparent)]
    MissingLibrary(#[from] MissingLibrary),
    /// The worker does not describe its engine in time.
    #[error(
        "{}: the worker did not answer {TELL_ENGINE} within {} s",
        program.display(),
        limit.as_secs()
    )]
    NoAnswer {
        /// The worker.
        program: PathBuf,
        /// The time that it had.
        limit: Duration,
    },
    /// A signal came while the worker was asked for its engine.
    #[error("{}: {} ended the run", program.display(), signal::name(*signal))]
    Interrupted {
        /// The worker.
        program: PathBuf,
        /// The signal's number.
        signal: i32,
    },
    /// The worker does not describe its engine.
    #[error(
        "{}: the worker does not answer {TELL_ENGINE} by its engine ({source}): {said:?}",
        program.display()
    )]
    BadAnswer {
        /// The worker.
        program: PathBuf,
        /// What it printed instead.
        said: String,
        /// Why that does not describe an engine.
        source: serde_json::Error,
    },
    /// A worker with CUDA is needed, and none can be built on this host.
    #[error(
        "{lacks}; {gpu} needs a worker for compute capability {capability}, and none can be built \
         here: {obstacle}"
    )]
    CannotBuild {
        /// What the worker at hand lacks.
        lacks: String,
        /// The name of the GPU.
        gpu: String,
        /// The compute capability of the GPU.
        capability: String,
        /// Why no worker can be built.
        obstacle: BuildObstacle,
    },
    /// The CUDA toolkit compiles what the driver cannot load.
    #[error(
        "{} is of CUDA {version}; the driver {driver} of {gpu} knows CUDA up to {supported} and \
         cannot load what a later one compiles",
        nvcc.display()
    )]
    ToolkitTooNew {
        /// CUDA's compiler.
        nvcc: PathBuf,
        /// The version of the toolkit.
        version: String,
        /// The version of the driver.
        driver: String,
        /// The name of the GPU.
        gpu: String,
        /// The newest version of CUDA that the driver supports.
        supported: String,
    },
    /// A file or folder that a build needs cannot be read or written.
    #[error("a worker with CUDA cannot be built: {what}: {source}")]
    BuildFiles {
        /// Which file or folder.
        what: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A signal came during the build.
    #[error("{} ended the build of the worker", signal::name(*_0))]
    BuildInterrupted(i32),
    /// The sources were changed during every attempt to build them.
    #[error("the sources changed while {what} was built from them, {attempts} times")]
    SourcesChanged {
        /// What was to be built.
        what: String,
        /// How often it was tried.
        attempts: usize,
    },
    /// Cargo, or its log, cannot be started or read.
    #[error("{what} cannot be built: {}: {source}", path.display())]
    CargoNotStarted {
        /// What was to be built.
        what: String,
        /// Cargo, or its log.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Cargo failed.
    #[error(
        "building {what} failed ({}); its last words:\n{}",
        status.map_or("it is not known how".to_owned(), |status| status.to_string()),
        lines.join("\n")
    )]
    BuildFailed {
        /// What was to be built.
        what: String,
        /// The compute capability that it was to be built for.
        capability: String,
        /// How cargo ended, if it is known.
        status: Option<ExitStatus>,
        /// The last lines that it printed.
        lines: Vec<String>,
        /// The file with everything that it printed.
        log: PathBuf,
    },
    /// Cargo succeeded and named no worker.
    #[error("{what} was built, and cargo named no program")]
    NoProgramBuilt {
        /// What was to be built.
        what: String,
        /// The file with everything that cargo printed.
        log: PathBuf,
    },
    /// The worker that was built is for another compute capability than it was built for.
    #[error(
        "{}: built for compute capability {expected}, and says that it was built for {found}",
        program.display()
    )]
    WrongBuild {
        /// The worker.
        program: PathBuf,
        /// The compute capability that it was built for.
        expected: String,
        /// The compute capability that it reports.
        found: String,
    },
    /// Another process, which this one waited for, could not build the worker.
    #[error(transparent)]
    Noted(#[from] NotedError),
}

/// Why no worker can be built on this host.
#[derive(Debug, thiserror::Error)]
pub enum BuildObstacle {
    /// `MODELGATE_BUILD` forbids it.
    #[error("{BUILD}={NEVER} forbids it")]
    Forbidden,
    /// The sources of modelgate are not on this host.
    #[error(
        "the sources are not on this host (looked for where cargo or nextest say, and above the \
         test binary)"
    )]
    NoSources,
    /// There is no usable CUDA toolkit, for this reason.
    #[error("{0}")]
    NoToolkit(String),
}

impl BuildObstacle {
    fn remedy(&self) -> String {
        match self {
            BuildObstacle::Forbidden => {
                format!("unset {BUILD} where the CUDA toolkit is installed")
            }
            BuildObstacle::NoSources => {
                "run from the repository on a host with the CUDA toolkit".to_owned()
            }
            BuildObstacle::NoToolkit(_) => "install the CUDA toolkit, so that nvcc is in PATH or \
                                            CUDA_HOME names its folder"
                .to_owned(),
        }
    }
}

/// An error of a build as a process notes it for those that wait for the same build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct NotedError {
    kind: FailureKind,
    message: String,
    hint: String,
}

impl NotedError {
    /// Returns what is noted of `error`.
    pub(crate) fn of(error: &WorkerError) -> NotedError {
        NotedError { kind: error.kind(), message: error.to_string(), hint: error.hint() }
    }
}

impl WorkerError {
    /// Whether a signal caused it.
    pub(super) fn is_interrupt(&self) -> bool {
        self.kind() == FailureKind::Interrupted
    }
}

impl Reportable for WorkerError {
    fn kind(&self) -> FailureKind {
        match self {
            WorkerError::NamedNotFound(_)
            | WorkerError::NotFound(_)
            | WorkerError::NotStarted { .. }
            | WorkerError::CannotBuild { .. }
            | WorkerError::SourcesChanged { .. }
            | WorkerError::CargoNotStarted { .. }
            | WorkerError::BuildFailed { .. }
            | WorkerError::NoProgramBuilt { .. }
            | WorkerError::WrongBuild { .. } => FailureKind::NoWorker,
            WorkerError::MissingLibrary(missing) => missing.kind(),
            WorkerError::NoAnswer { .. } => FailureKind::Stalled,
            WorkerError::Interrupted { .. } | WorkerError::BuildInterrupted(_) => {
                FailureKind::Interrupted
            }
            WorkerError::BadAnswer { .. } => FailureKind::Protocol,
            WorkerError::ToolkitTooNew { .. } => FailureKind::DeviceMismatch,
            WorkerError::BuildFiles { .. } => FailureKind::Io,
            WorkerError::Noted(noted) => noted.kind,
        }
    }

    fn hint(&self) -> String {
        let hint = match self {
            WorkerError::NamedNotFound(_) => {
                "name an executable that speaks the worker's protocol, or unset the variable"
            }
            WorkerError::NotFound(_) => {
                "`cargo test` builds it; otherwise build it with `cargo build --release` and name \
                 it with MODELGATE_WORKER"
            }
            WorkerError::NotStarted { .. } => "MODELGATE_WORKER is the path of an executable",
            WorkerError::MissingLibrary(missing) => missing.hint(),
            WorkerError::NoAnswer { .. } => {
                "with this argument a worker prints its engine as one line of JSON and ends"
            }
            WorkerError::Interrupted { .. } => "start the run again",
            WorkerError::BadAnswer { .. } => {
                "with this argument a worker prints its engine as one line of JSON and ends; a \
                 worker built from another version has to be built again"
            }
            WorkerError::CannotBuild { capability, obstacle, .. } => {
                return format!(
                    "{}; or set {WORKER} to a worker that was built for compute capability \
                     {capability}; or build one elsewhere from the same sources with `{}={} cargo \
                     build --release --features cuda`, copy target/release/{WORKER_NAME} to this host \
                     and name it so",
                    obstacle.remedy(),
                    CUDA_COMPUTE_CAP,
                    capability_digits(capability)
                );
            }
            WorkerError::ToolkitTooNew { supported, .. } => {
                return format!(
                    "install a newer driver, or a CUDA toolkit of at most {supported}, and name \
                     it with PATH or CUDA_HOME"
                );
            }
            WorkerError::BuildFiles { .. } => {
                "check permissions and free space of the target folder"
            }
            WorkerError::BuildInterrupted(_) => {
                "start the run again; what is built already is kept"
            }
            WorkerError::SourcesChanged { .. } => {
                "start the run again when nothing changes the sources any more"
            }
            WorkerError::CargoNotStarted { .. } => {
                "`cargo` must be in PATH, and the target folder writable"
            }
            WorkerError::BuildFailed { capability, log, .. } => {
                return format!(
                    "the whole output is in {}; the same by hand: `{}={} cargo build --release \
                     --locked --features cuda --bin {WORKER_NAME}`; or set {WORKER} to a worker built \
                     elsewhere",
                    log.display(),
                    CUDA_COMPUTE_CAP,
                    capability_digits(capability)
                );
            }
            WorkerError::NoProgramBuilt { log, .. } => {
                return format!("the whole output is in {}", log.display());
            }
            WorkerError::WrongBuild { .. } => "a defect of modelgate's build; please report it",
            WorkerError::Noted(noted) => &noted.hint,
        };
        hint.to_owned()
    }
}

fn list(places: &[PathBuf]) -> String {
    let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    places.join(", ")
}

//! The reasons why there is no worker for a model.

use super::built::WORKER_NAME;
use super::missing_library::MissingLibrary;
use crate::nvidia::capability_digits;
use crate::reportable::Reportable;
use crate::settings::variables::{BUILD, CUDA_COMPUTE_CAP, NEVER, WORKER};
use crate::signal;
use modelgate_protocol::{ENGINE_ARGUMENT, FailureKind};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// The reason why there is no worker for a model.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// `MODELGATE_WORKER` does not name a file.
    #[error("{WORKER}={}: no such file", _0.display())]
    NamedNotFound(PathBuf),
    /// The worker that was built with this program is not at one of these paths.
    #[error("the worker program was not found: searched {}", list(_0))]
    NotFound(Vec<PathBuf>),
    /// The operating system cannot start the program.
    #[error("{}: the worker cannot be started: {source}", program.display())]
    NotStarted {
        /// The path of the worker.
        program: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The loader does not find a library of the program.
    #[error(transparent)]
    MissingLibrary(#[from] MissingLibrary),
    /// The worker did not report its engine in time.
    #[error(
        "{}: the worker did not end within {} s after the start with `{ENGINE_ARGUMENT}`",
        program.display(),
        limit.as_secs()
    )]
    NoAnswer {
        /// The path of the worker.
        program: PathBuf,
        /// How long the harness waited.
        limit: Duration,
    },
    /// A signal arrived while the worker was asked for its engine.
    #[error("{}: {} ended the run", program.display(), signal::name(*signal))]
    Interrupted {
        /// The path of the worker.
        program: PathBuf,
        /// The number of the signal.
        signal: i32,
    },
    /// The worker printed text that is not its engine.
    #[error(
        "{}: the output of the worker for `{ENGINE_ARGUMENT}` is not an engine ({source}): {output:?}",
        program.display()
    )]
    InvalidReply {
        /// The path of the worker.
        program: PathBuf,
        /// The output of the worker.
        output: String,
        /// Why the output is not an engine.
        source: serde_json::Error,
    },
    /// The model needs a worker with CUDA, which cannot be built on this host.
    #[error(
        "{lacks}; {gpu} needs a worker for compute capability {capability}, which cannot be built \
         on this host: {obstacle}"
    )]
    CannotBuild {
        /// Why the existing worker cannot be used.
        lacks: String,
        /// The name of the GPU.
        gpu: String,
        /// The compute capability of the GPU, such as `9.0`.
        capability: String,
        /// Why the worker cannot be built.
        obstacle: BuildObstacle,
    },
    /// The driver cannot load the kernels of the installed CUDA toolkit.
    #[error(
        "{}: the compiler has CUDA {version}, and the driver {driver} of {gpu} supports CUDA up to \
         {supported}",
        nvcc.display()
    )]
    ToolkitTooNew {
        /// The path of the CUDA compiler.
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
        /// A description of the file or folder.
        what: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The signal with this number arrived during the build.
    #[error("{} ended the build of the worker", signal::name(*_0))]
    BuildInterrupted(i32),
    /// The sources changed during every attempt to build them.
    #[error("{what} cannot be built: the sources changed during each of {attempts} builds")]
    SourcesChanged {
        /// A description of the worker, such as `a worker for compute capability 9.0`.
        what: String,
        /// The number of attempts.
        attempts: usize,
    },
    /// Cargo or its log file cannot be started or read.
    #[error("{what} cannot be built: {}: {source}", path.display())]
    CargoNotStarted {
        /// A description of the worker, such as `a worker for compute capability 9.0`.
        what: String,
        /// The path of cargo or its log file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Cargo failed.
    #[error(
        "{what} cannot be built: cargo failed ({}); last output:\n{}",
        status.map_or("unknown status".to_owned(), |status| status.to_string()),
        lines.join("\n")
    )]
    BuildFailed {
        /// A description of the worker, such as `a worker for compute capability 9.0`.
        what: String,
        /// The requested compute capability.
        capability: String,
        /// The exit status of cargo. `None` if it is unknown.
        status: Option<ExitStatus>,
        /// The last lines of the output of cargo.
        lines: Vec<String>,
        /// The file with the complete output of cargo.
        log: PathBuf,
    },
    /// Cargo succeeded, but did not report the path of the worker.
    #[error("{what} was built, but cargo did not report the path of the program")]
    NoProgramBuilt {
        /// A description of the worker, such as `a worker for compute capability 9.0`.
        what: String,
        /// The file with the complete output of cargo.
        log: PathBuf,
    },
    /// The built worker reports a different compute capability from the requested one.
    #[error(
        "{}: the built worker reports an unexpected compute capability: expected {expected}, found \
         {found}",
        program.display()
    )]
    WrongBuild {
        /// The path of the worker.
        program: PathBuf,
        /// The requested compute capability.
        expected: String,
        /// The reported compute capability.
        found: String,
    },
    /// Another process, for which this one waited, could not build the worker.
    #[error(transparent)]
    Recorded(#[from] RecordedError),
}

/// The reason why a worker cannot be built on this host.
#[derive(Debug, thiserror::Error)]
pub enum BuildObstacle {
    /// `MODELGATE_BUILD` forbids builds.
    #[error("{BUILD}={NEVER} forbids builds")]
    Forbidden,
    /// The sources of modelgate are not on this host.
    #[error(
        "the sources are not on this host (searched the folders that cargo and nextest name, and \
         the folders above the test binary)"
    )]
    NoSources,
    /// There is no CUDA toolkit, for this reason.
    #[error("{0}")]
    NoToolkit(String),
    /// The CUDA compiler does not print its version, for this reason.
    #[error("{0}")]
    CompilerFailed(String),
}

impl BuildObstacle {
    /// Returns the first part of the hint.
    fn remedy(&self) -> String {
        match self {
            BuildObstacle::Forbidden => {
                format!("unset {BUILD} on a host with the CUDA toolkit")
            }
            BuildObstacle::NoSources => {
                "run the tests in the repository on a host with the CUDA toolkit".to_owned()
            }
            BuildObstacle::NoToolkit(_) => {
                "install the CUDA toolkit, and add nvcc to PATH or set CUDA_HOME".to_owned()
            }
            BuildObstacle::CompilerFailed(_) => {
                "run the command, and repair the CUDA toolkit; or set NVCC to another compiler"
                    .to_owned()
            }
        }
    }
}

/// The error of a build, recorded for processes that wait for the same build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RecordedError {
    kind: FailureKind,
    message: String,
    hint: String,
}

impl RecordedError {
    /// Converts `error` to the form that is stored.
    pub(crate) fn of(error: &WorkerError) -> RecordedError {
        RecordedError { kind: error.kind(), message: error.to_string(), hint: error.hint() }
    }
}

impl WorkerError {
    /// Returns whether a signal caused the error.
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
            | WorkerError::WrongBuild { .. } => FailureKind::WorkerNotFound,
            WorkerError::MissingLibrary(missing) => missing.kind(),
            WorkerError::NoAnswer { .. } => FailureKind::Stalled,
            WorkerError::Interrupted { .. } | WorkerError::BuildInterrupted(_) => {
                FailureKind::Interrupted
            }
            WorkerError::InvalidReply { .. } => FailureKind::Protocol,
            WorkerError::ToolkitTooNew { .. } => FailureKind::DeviceMismatch,
            WorkerError::BuildFiles { .. } => FailureKind::Io,
            WorkerError::Recorded(recorded) => recorded.kind,
        }
    }

    fn hint(&self) -> String {
        let hint = match self {
            WorkerError::NamedNotFound(_) => {
                "set MODELGATE_WORKER to the path of a worker; or unset it"
            }
            WorkerError::NotFound(_) => {
                "run `cargo test`, which builds the worker; or build it with `cargo build \
                 --release` and set MODELGATE_WORKER to its path"
            }
            WorkerError::NotStarted { .. } => {
                "set MODELGATE_WORKER to the path of an executable; or unset it"
            }
            WorkerError::MissingLibrary(missing) => missing.hint(),
            WorkerError::NoAnswer { .. } => {
                "change the worker: with this argument, it prints its engine as one line of JSON and \
                 exits"
            }
            WorkerError::Interrupted { .. } => "start the run again",
            WorkerError::InvalidReply { .. } => {
                "change the worker: with this argument, it prints its engine as one line of JSON and \
                 exits; or rebuild the worker from the sources of this version"
            }
            WorkerError::CannotBuild { capability, obstacle, .. } => {
                return format!(
                    "{}; or set {WORKER} to a worker that was built for compute capability \
                     {capability}; or build one on another host from the same sources with `{}={} \
                     cargo build --release --features cuda`, copy target/release/{WORKER_NAME} to \
                     this host and set {WORKER} to its path",
                    obstacle.remedy(),
                    CUDA_COMPUTE_CAP,
                    capability_digits(capability)
                );
            }
            WorkerError::ToolkitTooNew { supported, .. } => {
                return format!(
                    "install a newer driver; or install the CUDA toolkit {supported} or older, and \
                     add it to PATH or set CUDA_HOME"
                );
            }
            WorkerError::BuildFiles { .. } => {
                "check the permissions and the free space of the target folder"
            }
            WorkerError::BuildInterrupted(_) => {
                "start the run again: finished parts of the build are kept"
            }
            WorkerError::SourcesChanged { .. } => {
                "stop changing the sources, and start the run again"
            }
            WorkerError::CargoNotStarted { .. } => {
                "add `cargo` to PATH, and make the target folder writable"
            }
            WorkerError::BuildFailed { capability, log, .. } => {
                return format!(
                    "read the complete output in {}; or build by hand with `{}={} cargo build \
                     --release --locked --features cuda --bin {WORKER_NAME}`; or set {WORKER} to a \
                     worker that was built on another host",
                    log.display(),
                    CUDA_COMPUTE_CAP,
                    capability_digits(capability)
                );
            }
            WorkerError::NoProgramBuilt { log, .. } => {
                return format!("read the complete output in {}", log.display());
            }
            WorkerError::WrongBuild { .. } => "report this defect of modelgate",
            WorkerError::Recorded(recorded) => &recorded.hint,
        };
        hint.to_owned()
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

//! One run of cargo: its environment, its output, and its end.

use super::nvcc::Nvcc;
use crate::nvidia::capability_digits;
use crate::process::{self, KillScope, Process};
use crate::progress::BuildProgress;
use crate::settings::variables::{CARGO, CUDA_COMPUTE_CAP, CUDA_FOLDERS, LIBRARY_PATH, NVCC, PATH};
use crate::signal::Interrupt;
use crate::workers::built::{WORKER_NAME, append_folder};
use modelgate_hub::Variables;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the output may take to arrive after the end of cargo.
const GRACE: Duration = Duration::from_secs(1);
/// The maximum number of output lines in the message of a failure.
const MAX_LINES: usize = 12;
/// The prefix of the variables that cargo sets for the programs that it runs.
const CARGO_PREFIX: &str = "CARGO";
/// Prefixes of the variables of cargo that the user sets: the folder of its files and the access to
/// registries. A build inherits them.
const INHERITED: [&str; 6] = [
    "CARGO_HOME",
    "CARGO_NET_",
    "CARGO_HTTP_",
    "CARGO_REGISTRY_",
    "CARGO_REGISTRIES_",
    "CARGO_SOURCE_",
];
/// Prefixes of other variables that a build must not inherit, because they configure this run.
/// Variables with tokens are removed separately.
const NOT_INHERITED: [&str; 2] = ["NEXTEST", "MODELGATE_"];

/// The packages from which a worker is built.
const PACKAGES: [&str; 6] = [
    "modelgate",
    "modelgate-engine",
    "modelgate-harness",
    "modelgate-hub",
    "modelgate-model",
    "modelgate-protocol",
];

/// The inputs of a build by cargo.
pub(super) struct BuildInput<'a> {
    /// The folder of the sources.
    pub(super) sources: &'a Path,
    /// The target folder of cargo.
    pub(super) target: &'a Path,
    /// The file for the complete output.
    pub(super) log: &'a Path,
    /// The compute capability, such as `9.0`.
    pub(super) capability: &'a str,
    /// The CUDA compiler.
    pub(super) nvcc: &'a Nvcc,
    /// The environment variables of this process.
    pub(super) variables: &'a Variables,
    /// The signals to this process, which end the build.
    pub(super) interrupt: &'a Interrupt,
}

/// The reason why a build has no worker as its result.
#[derive(Debug)]
pub(super) enum BuildError {
    /// Cargo cannot be started, or its log file cannot be created. The path is that of the file.
    Io(PathBuf, io::Error),
    /// Cargo failed with this status (`None` if it is unknown) and these last lines of output.
    Failed(Option<ExitStatus>, Vec<String>),
    /// Cargo succeeded, but did not report the path of the worker.
    NoProgram,
    /// The signal with this number arrived.
    Interrupted(i32),
}

/// Runs `cargo clean` for the packages of the worker. Cargo compares modification times, and a tree
/// that was copied or checked out may have other contents with older times.
///
/// # Errors
/// A signal arrived, or cargo cannot be started.
pub(super) fn clean(input: &BuildInput<'_>) -> Result<(), BuildError> {
    let cargo = program(input);
    let mut command = command(&cargo, input);
    command.args(["clean", "--release", "--locked", "--target-dir"]).arg(input.target);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut cargo = start(command, cargo)?;
    // `cargo clean` fails in an empty target folder, which has nothing to clean
    wait(&mut cargo, input.interrupt, || {}).map(drop)
}

/// Returns the path of cargo.
fn program(input: &BuildInput<'_>) -> PathBuf {
    input.variables.get(CARGO).map_or(PathBuf::from("cargo"), PathBuf::from)
}

/// Returns the command of cargo, in the folder of the sources and with the variables of a build.
fn command(cargo: &Path, input: &BuildInput<'_>) -> Command {
    let mut command = Command::new(cargo);
    command
        .current_dir(input.sources)
        .env_clear()
        .envs(variables(input.variables, input.nvcc, input.capability).iter())
        .stdin(Stdio::null());
    command
}

/// Builds the worker, and returns its path.
///
/// # Errors
/// See [`BuildError`]. Cargo and its children have ended when the function returns.
pub(super) fn build(
    input: &BuildInput<'_>,
    progress: &mut BuildProgress,
) -> Result<PathBuf, BuildError> {
    let log_error = |error| BuildError::Io(input.log.to_owned(), error);
    let log = File::create(input.log).map_err(log_error)?;
    let cargo = program(input);
    let mut command = command(&cargo, input);
    command
        .args(["build", "--release", "--locked", "--features", "cuda", "--bin", WORKER_NAME])
        .args(["--message-format", "json-render-diagnostics", "--target-dir"])
        .arg(input.target)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut cargo = start(command, cargo)?;
    let output = Arc::new(Mutex::new(CargoOutput::default()));
    read_output(&mut cargo, log, &output);
    let status = wait(&mut cargo, input.interrupt, || {
        let step = lock(&output).step.clone();
        progress.step(&step);
    })?;
    cargo.join_readers(GRACE);
    let output = lock(&output);
    if !status.is_some_and(|status| status.success()) {
        return Err(BuildError::Failed(status, output.lines.iter().cloned().collect()));
    }
    output.program.clone().ok_or(BuildError::NoProgram)
}

/// Starts cargo in its own process group, so that its compilers end with it.
fn start(command: Command, cargo: PathBuf) -> Result<Process, BuildError> {
    Process::start(command, KillScope::Group).map_err(|error| BuildError::Io(cargo, error))
}

/// Waits until cargo ends, and calls `watch` repeatedly. If a signal arrives, dropping the process
/// ends cargo.
fn wait(
    cargo: &mut Process,
    interrupt: &Interrupt,
    mut watch: impl FnMut(),
) -> Result<Option<ExitStatus>, BuildError> {
    cargo.wait(|| {
        watch();
        match interrupt.signal() {
            Some(signal) => Err(BuildError::Interrupted(signal)),
            None => Ok(()),
        }
    })
}

/// The output of cargo so far.
#[derive(Default)]
struct CargoOutput {
    /// The current step, such as `Compiling serde v1.0.228`.
    step: String,
    /// The last [`MAX_LINES`] lines that are not empty.
    lines: VecDeque<String>,
    /// The path of the worker. `None` until cargo reports it.
    program: Option<PathBuf>,
}

fn lock(output: &Mutex<CargoOutput>) -> std::sync::MutexGuard<'_, CargoOutput> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the output of cargo: JSON messages on standard output, text on standard error.
fn read_output(cargo: &mut Process, mut log: File, output: &Arc<Mutex<CargoOutput>>) {
    let (of_stdout, of_stderr) = (Arc::clone(output), Arc::clone(output));
    cargo.read_stdout(process::lines(move |line| {
        if let Some(program) = executable(line) {
            lock(&of_stdout).program = Some(program);
        }
    }));
    cargo.read_stderr(process::lines(move |line| {
        // a log that cannot be written, for example on a full disk, does not end the build
        let _ = writeln!(log, "{line}");
        let mut output = lock(&of_stderr);
        if let Some(step) = step(line) {
            output.step = step.to_owned();
        }
        if !line.trim().is_empty() {
            output.lines.push_back(line.to_owned());
        }
        if output.lines.len() > MAX_LINES {
            output.lines.pop_front();
        }
    }));
}

/// Returns the path of the worker from a JSON message of cargo. `None` for other messages.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_worker = message["target"]["name"] == WORKER_NAME;
    message["executable"].as_str().filter(|_| is_worker).map(PathBuf::from)
}

/// Returns the step in a line of cargo such as `   Compiling serde v1.0.228`. `None` for other
/// lines.
fn step(line: &str) -> Option<&str> {
    let words = line.trim_start();
    let verb = words.split(' ').next()?;
    let is_status = line.starts_with(' ') && verb.ends_with("ing");
    // the step does not contain the folder in parentheses
    is_status.then(|| words.split(" (").next().unwrap_or(words))
}

/// Returns the environment variables for cargo: those of this process, without the variables that
/// cargo sets for tests, and with the variables that the build scripts of CUDA need.
fn variables(process: &Variables, nvcc: &Nvcc, capability: &str) -> Variables {
    let mut variables = process.clone();
    let secrets = process.secret_names();
    variables.remove(|name| {
        let is_inherited = INHERITED.iter().any(|prefix| name.starts_with(prefix));
        let is_excluded = NOT_INHERITED.iter().any(|prefix| name.starts_with(prefix));
        let is_secret = secrets.iter().any(|secret| secret == name);
        name.starts_with(CARGO_PREFIX) && !is_inherited || is_excluded || is_secret
    });
    variables.set("CARGO_TERM_COLOR", "never");
    variables.set("CARGO_TERM_PROGRESS_WHEN", "never");
    variables.set(CUDA_COMPUTE_CAP, capability_digits(capability));
    variables.set(NVCC, nvcc.program.as_os_str());
    let [home, _] = CUDA_FOLDERS;
    if variables.get(home).is_none() {
        variables.set(home, nvcc.root.as_os_str());
    }
    if variables.get(LIBRARY_PATH).is_none()
        && let Some(folders) = nvcc.link_path()
    {
        variables.set(LIBRARY_PATH, folders);
    }
    // some build scripts use only PATH
    let folder = nvcc.program.parent().unwrap_or(Path::new("/"));
    let path = variables.get(PATH).map(std::ffi::OsStr::to_owned).unwrap_or_default();
    if !std::env::split_paths(&path).any(|place| place == folder) {
        let path = append_folder(Some(&path), folder.as_os_str());
        variables.set(PATH, path);
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nvcc() -> Nvcc {
        Nvcc { program: "/cuda/bin/nvcc".into(), version: "13.0".into(), root: "/cuda".into() }
    }

    #[test]
    fn cargo_inherits_user_variables_but_not_test_variables() {
        let mut own = Variables::default();
        let removed = [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "CARGO_BIN_EXE_modelgate-worker",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_PROFILE_RELEASE_OPT_LEVEL",
            "NEXTEST_RUN_ID",
            "MODELGATE_DEVICE",
            "HF_TOKEN",
            "HUGGINGFACE_HUB_TOKEN",
        ];
        let inherited = [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_HTTP_PROXY",
            "CARGO_REGISTRIES_MINE_TOKEN",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
            "HOME",
            "https_proxy",
            "HF_HOME",
        ];
        for name in removed.iter().chain(&inherited) {
            own.set(name, "value");
        }
        let variables = variables(&own, &nvcc(), "9.0");
        for name in removed {
            assert_eq!(variables.get(name), None, "{name}");
        }
        for name in inherited {
            assert_eq!(
                variables.get(name).and_then(|value| value.to_str()),
                Some("value"),
                "{name}"
            );
        }
    }

    #[test]
    fn build_scripts_get_the_folder_of_cuda_unless_the_user_set_it() {
        let text = |variables: &Variables, name: &str| {
            variables.get(name).map(|value| value.to_string_lossy().into_owned())
        };
        let mut own = Variables::default();
        own.set("PATH", "/bin");
        own.set("CUDA_COMPUTE_CAP", "70");
        let for_cargo = variables(&own, &nvcc(), "9.0");
        assert_eq!(
            text(&for_cargo, "CUDA_COMPUTE_CAP").as_deref(),
            Some("90"),
            "the compute capability of the GPU"
        );
        assert_eq!(text(&for_cargo, "CUDA_HOME").as_deref(), Some("/cuda"));
        assert_eq!(text(&for_cargo, "NVCC").as_deref(), Some("/cuda/bin/nvcc"));
        assert_eq!(text(&for_cargo, "PATH").as_deref(), Some("/bin:/cuda/bin"));
        own.set("PATH", "/cuda/bin:/bin");
        own.set("CUDA_HOME", "/mine");
        own.set("LIBRARY_PATH", "/mine/lib");
        let for_cargo = variables(&own, &nvcc(), "9.0");
        assert_eq!(text(&for_cargo, "CUDA_HOME").as_deref(), Some("/mine"));
        assert_eq!(text(&for_cargo, "LIBRARY_PATH").as_deref(), Some("/mine/lib"));
        assert_eq!(text(&for_cargo, "PATH").as_deref(), Some("/cuda/bin:/bin"));
    }

    #[test]
    fn lines_of_cargo_become_steps() {
        let rows = [
            ("   Compiling serde v1.0.228", Some("Compiling serde v1.0.228")),
            ("   Compiling modelgate v0.1.0 (/w/modelgate)", Some("Compiling modelgate v0.1.0")),
            ("    Blocking waiting for file lock", Some("Blocking waiting for file lock")),
            (" Downloading 3 crates", Some("Downloading 3 crates")),
            ("error: linking failed", None),
            ("    let x = 1;", None),
            ("", None),
        ];
        for (line, expected) in rows {
            assert_eq!(step(line), expected, "{line}");
        }
    }

    #[test]
    fn the_worker_is_the_executable_in_the_messages_of_cargo() {
        let message = |name: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"name":"{name}"}},"executable":"/t/w"}}"#
            )
        };
        assert_eq!(executable(&message("modelgate-worker")), Some("/t/w".into()));
        assert_eq!(executable(&message("other")), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(executable("output of a build script"), None);
    }
}

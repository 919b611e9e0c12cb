//! One run of cargo: what it inherits, what is shown of it, and how it is ended.

use super::nvcc::Nvcc;
use crate::nvidia::capability_digits;
use crate::process::{self, Process, Scope};
use crate::progress::BuildProgress;
use crate::settings::variables::{CARGO, CUDA_COMPUTE_CAP, CUDA_FOLDERS, LIBRARY_PATH, NVCC, PATH};
use crate::signal::Interrupt;
use crate::workers::built::{WORKER_NAME, appended};
use modelgate_hub::Variables;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The time for what cargo printed to arrive after its end.
const GRACE: Duration = Duration::from_secs(1);
/// Lines of its output that a failure repeats.
const MAX_LINES: usize = 12;
/// The prefix of the variables that cargo sets for the programs that it runs.
const CARGO_PREFIX: &str = "CARGO";
/// What of it is the user's own: where cargo keeps its files and how it reaches registries.
const USERS: [&str; 6] = [
    "CARGO_HOME",
    "CARGO_NET_",
    "CARGO_HTTP_",
    "CARGO_REGISTRY_",
    "CARGO_REGISTRIES_",
    "CARGO_SOURCE_",
];
/// What else a build has no business with: what says how this run is to be. Tokens go by themselves.
const NOT_INHERITED: [&str; 2] = ["NEXTEST", "MODELGATE_"];

/// The packages of the sources that a worker is built from.
const PACKAGES: [&str; 6] = [
    "modelgate",
    "modelgate-engine",
    "modelgate-harness",
    "modelgate-hub",
    "modelgate-model",
    "modelgate-protocol",
];

/// What is to be built.
pub(super) struct Order<'a> {
    /// The sources.
    pub(super) sources: &'a Path,
    /// Cargo's target folder.
    pub(super) target: &'a Path,
    /// Where all that is printed goes.
    pub(super) log: &'a Path,
    /// The compute capability, such as `9.0`.
    pub(super) capability: &'a str,
    /// CUDA's compiler.
    pub(super) nvcc: &'a Nvcc,
    /// The variables of this process.
    pub(super) variables: &'a Variables,
    /// Signals to it.
    pub(super) interrupt: &'a Interrupt,
}

/// Why there is no worker.
#[derive(Debug)]
pub(super) enum BuildError {
    /// Cargo, or its log, cannot be started or read.
    Io(PathBuf, io::Error),
    /// Cargo ended with this status, and this is the end of what it printed.
    Failed(Option<ExitStatus>, Vec<String>),
    /// Cargo ended well and named no worker.
    NoProgram,
    /// A signal came.
    Interrupted(i32),
}

/// Makes cargo forget what it built of these sources before: it goes by times of modification, and
/// a tree that was copied or checked out may hold other contents with older ones.
///
/// # Errors
/// A signal came, or cargo cannot be started.
pub(super) fn forget(order: &Order<'_>) -> Result<(), BuildError> {
    let cargo = program(order);
    let mut command = command(&cargo, order);
    command.args(["clean", "--release", "--locked", "--target-dir"]).arg(order.target);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut cargo = start(command, cargo)?;
    // in an empty folder there is nothing to forget, and it fails
    wait(&mut cargo, order.interrupt, || {}).map(drop)
}

fn program(order: &Order<'_>) -> PathBuf {
    order.variables.get(CARGO).map_or(PathBuf::from("cargo"), PathBuf::from)
}

/// Cargo, in the folder of the sources and with variables of its own.
fn command(cargo: &Path, order: &Order<'_>) -> Command {
    let mut command = Command::new(cargo);
    command
        .current_dir(order.sources)
        .env_clear()
        .envs(variables(order.variables, order.nvcc, order.capability).iter())
        .stdin(Stdio::null());
    command
}

/// Builds the worker and gives the program as cargo left it.
///
/// # Errors
/// See [`BuildError`]. Cargo and what it started are gone then.
pub(super) fn build(
    order: &Order<'_>,
    progress: &mut BuildProgress,
) -> Result<PathBuf, BuildError> {
    let at_log = |error| BuildError::Io(order.log.to_owned(), error);
    let log = File::create(order.log).map_err(at_log)?;
    let cargo = program(order);
    let mut command = command(&cargo, order);
    command
        .args(["build", "--release", "--locked", "--features", "cuda", "--bin", WORKER_NAME])
        .args(["--message-format", "json-render-diagnostics", "--target-dir"])
        .arg(order.target)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut cargo = start(command, cargo)?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    read_output(&mut cargo, log, &seen);
    let status = wait(&mut cargo, order.interrupt, || {
        let step = lock(&seen).step.clone();
        progress.step(&step);
    })?;
    cargo.join_readers(GRACE);
    let seen = lock(&seen);
    if !status.is_some_and(|status| status.success()) {
        return Err(BuildError::Failed(status, seen.lines.iter().cloned().collect()));
    }
    seen.program.clone().ok_or(BuildError::NoProgram)
}

/// Starts cargo in a process group of its own: its compilers are ended with it.
fn start(command: Command, cargo: PathBuf) -> Result<Process, BuildError> {
    Process::start(command, Scope::Group).map_err(|error| BuildError::Io(cargo, error))
}

/// Waits until cargo ends; `watch` is called meanwhile. Where a signal comes, dropping the process ends
/// cargo.
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

/// What cargo has printed so far.
#[derive(Default)]
struct Seen {
    /// What it does, such as `Compiling serde v1.0`.
    step: String,
    /// The last lines.
    lines: VecDeque<String>,
    /// The worker.
    program: Option<PathBuf>,
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes in what cargo prints: messages for programs on its standard output, everything for people on
/// its standard error.
fn read_output(cargo: &mut Process, mut log: File, seen: &Arc<Mutex<Seen>>) {
    let (at_program, at_line) = (Arc::clone(seen), Arc::clone(seen));
    cargo.read_stdout(process::lines(move |line| {
        if let Some(program) = executable(line) {
            lock(&at_program).program = Some(program);
        }
    }));
    cargo.read_stderr(process::lines(move |line| {
        // a log on a full disk is no reason to end a build
        let _ = writeln!(log, "{line}");
        let mut seen = lock(&at_line);
        if let Some(step) = step(line) {
            seen.step = step.to_owned();
        }
        if !line.trim().is_empty() {
            seen.lines.push_back(line.to_owned());
        }
        if seen.lines.len() > MAX_LINES {
            seen.lines.pop_front();
        }
    }));
}

/// The worker that a message of cargo's names.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_worker = message["target"]["name"] == WORKER_NAME;
    message["executable"].as_str().filter(|_| is_worker).map(PathBuf::from)
}

/// What cargo does, where a line of its says so: `   Compiling serde v1.0.228`.
fn step(line: &str) -> Option<&str> {
    let words = line.trim_start();
    let verb = words.split(' ').next()?;
    let is_status = line.starts_with(' ') && verb.ends_with("ing");
    // a folder in parentheses is of no interest
    is_status.then(|| words.split(" (").next().unwrap_or(words))
}

/// The variables of cargo: those of this process, without what the cargo that runs the tests has
/// set for them, and with what CUDA's build scripts need.
fn variables(own: &Variables, nvcc: &Nvcc, capability: &str) -> Variables {
    let mut variables = own.clone();
    let secrets = own.secret_names();
    variables.remove(|name| {
        let users = USERS.iter().any(|prefix| name.starts_with(prefix));
        let not_inherited = NOT_INHERITED.iter().any(|prefix| name.starts_with(prefix));
        let is_secret = secrets.iter().any(|secret| secret == name);
        name.starts_with(CARGO_PREFIX) && !users || not_inherited || is_secret
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
    // some build scripts know nothing but PATH
    let folder = nvcc.program.parent().unwrap_or(Path::new("/"));
    let path = variables.get(PATH).map(std::ffi::OsStr::to_owned).unwrap_or_default();
    if !std::env::split_paths(&path).any(|place| place == folder) {
        let path = appended(Some(&path), folder.as_os_str());
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
    fn cargo_inherits_the_user_s_variables_and_not_those_of_the_tests() {
        let mut own = Variables::default();
        let gone = [
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
        let stays = [
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
        for name in gone.iter().chain(&stays) {
            own.set(name, "value");
        }
        let variables = variables(&own, &nvcc(), "9.0");
        for name in gone {
            assert_eq!(variables.get(name), None, "{name}");
        }
        for name in stays {
            assert_eq!(variables.get(name).and_then(|value| value.to_str()), Some("value"));
        }
    }

    #[test]
    fn build_scripts_are_told_where_cuda_is_unless_the_user_has_said_so() {
        let text = |variables: &Variables, name: &str| {
            variables.get(name).map(|value| value.to_string_lossy().into_owned())
        };
        let mut own = Variables::default();
        own.set("PATH", "/bin");
        own.set("CUDA_COMPUTE_CAP", "70");
        let told = variables(&own, &nvcc(), "9.0");
        assert_eq!(text(&told, "CUDA_COMPUTE_CAP").as_deref(), Some("90"), "the GPU's");
        assert_eq!(text(&told, "CUDA_HOME").as_deref(), Some("/cuda"));
        assert_eq!(text(&told, "NVCC").as_deref(), Some("/cuda/bin/nvcc"));
        assert_eq!(text(&told, "PATH").as_deref(), Some("/bin:/cuda/bin"));
        own.set("PATH", "/cuda/bin:/bin");
        own.set("CUDA_HOME", "/mine");
        own.set("LIBRARY_PATH", "/mine/lib");
        let told = variables(&own, &nvcc(), "9.0");
        assert_eq!(text(&told, "CUDA_HOME").as_deref(), Some("/mine"));
        assert_eq!(text(&told, "LIBRARY_PATH").as_deref(), Some("/mine/lib"));
        assert_eq!(text(&told, "PATH").as_deref(), Some("/cuda/bin:/bin"));
    }

    #[test]
    fn cargo_s_lines_become_steps() {
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
    fn the_worker_is_what_cargo_names_so() {
        let of = |name: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"name":"{name}"}},"executable":"/t/w"}}"#
            )
        };
        assert_eq!(executable(&of("modelgate-worker")), Some("/t/w".into()));
        assert_eq!(executable(&of("other")), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(executable("words of a build script"), None);
    }
}

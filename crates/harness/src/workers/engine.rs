//! Queries the engine of a worker program before the worker loads a model on a GPU.

use super::built::BuiltWorker;
use super::error::WorkerError;
use super::missing_library::MissingLibrary;
use crate::process::{self, RunError};
use crate::signal::Interrupt;
use modelgate_hub::Variables;
use modelgate_protocol::{ENGINE_ARGUMENT, Engine};
use std::time::Duration;

/// How long a worker may take to report its engine: on a cold disk, it reads half a gigabyte of
/// libraries.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The maximum length of the output in bytes.
const MAX_OUTPUT_BYTES: usize = 64 << 10;
/// The maximum length of invalid output in a message, in characters.
const MAX_SHOWN_CHARS: usize = 200;

/// Returns the engine that the worker `built` reports. It is started with the variables
/// `inherited`.
///
/// # Errors
/// The worker cannot be started, does not find a library, or does not print an engine.
pub fn engine_of(
    built: &BuiltWorker,
    inherited: &Variables,
    interrupt: &Interrupt,
) -> Result<Engine, WorkerError> {
    let program = || built.program.clone();
    let mut command = built.command(inherited);
    command.arg(ENGINE_ARGUMENT);
    let output = process::run(command, TIME_LIMIT, MAX_OUTPUT_BYTES, interrupt);
    let output = output.map_err(|reason| match reason {
        RunError::NotStarted(source) => WorkerError::NotStarted { program: program(), source },
        RunError::TimedOut => WorkerError::NoAnswer { program: program(), limit: TIME_LIMIT },
        RunError::Interrupted(signal) => WorkerError::Interrupted { program: program(), signal },
    })?;
    let code = output.status.and_then(|status| status.code());
    if let Some(missing) = MissingLibrary::find(code, &output.stderr) {
        return Err(missing.into());
    }
    let line = output.stdout.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(line).map_err(|source| {
        let text = if line.is_empty() { output.stderr.trim() } else { line };
        let text = text.chars().take(MAX_SHOWN_CHARS).collect();
        WorkerError::InvalidReply { program: program(), output: text, source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reportable::Reportable;
    use modelgate_protocol::{Failure, FailureKind};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    /// Asks a worker that is a shell script with this body for its engine.
    fn engine_of_script(body: &str) -> Result<Engine, Failure> {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("worker");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a script");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("an executable");
        engine_of(&BuiltWorker::at(path), &Variables::default(), &Interrupt::default())
            .map_err(|error| error.to_failure())
    }

    #[test]
    fn a_worker_reports_its_engine() {
        let engine = engine_of_script(
            "test \"$1\" = --engine || exit 9\necho warming up\necho '{\"name\": \"e\", \
             \"version\": \"1\", \"build\": \"b\", \"compute_capability\": \"9.0\", \
             \"cuda\": \"13.0\"}'",
        );
        let engine = engine.expect("an engine");
        assert_eq!(engine.compute_capability.as_deref(), Some("9.0"));
        assert_eq!(engine.cuda.as_deref(), Some("13.0"));
    }

    #[test]
    fn processes_that_a_worker_leaves_behind_are_not_waited_for() {
        let began = Instant::now();
        let engine = engine_of_script(
            "/bin/sleep 20 &\necho '{\"name\": \"e\", \"version\": \"1\", \"build\": \"b\", \
             \"compute_capability\": null}'",
        );
        assert_eq!(engine.expect("an engine").name, "e");
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    }

    #[test]
    fn invalid_output_is_reported_with_its_text() {
        for (body, kind, expected) in [
            ("echo nonsense", FailureKind::Protocol, "\"nonsense\""),
            ("echo broken >&2; exit 1", FailureKind::Protocol, "\"broken\""),
            (
                "echo 'w: error while loading shared libraries: libcuda.so.1: cannot open shared \
                 object file: No such file or directory' >&2; exit 127",
                FailureKind::DeviceNotFound,
                "libcuda.so.1",
            ),
        ] {
            let failure = engine_of_script(body).expect_err("refused");
            assert_eq!(failure.kind, kind, "{failure}");
            assert!(failure.message.contains(expected), "expected {expected:?} in {failure}");
        }
        let missing = BuiltWorker::at("/no/such/worker".into());
        let failure = engine_of(&missing, &Variables::default(), &Interrupt::default());
        let failure = failure.expect_err("refused").to_failure();
        assert_eq!(failure.kind, FailureKind::WorkerNotFound);
        assert!(failure.message.contains("/no/such/worker"), "{failure}");
    }
}

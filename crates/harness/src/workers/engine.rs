//! What a worker program is: asked of itself, before a model on a GPU is trusted to it.

use super::built::BuiltWorker;
use super::error::WorkerError;
use super::missing_library::MissingLibrary;
use crate::process::{self, NoAnswer};
use crate::signal::Interrupt;
use modelgate_hub::Variables;
use modelgate_protocol::{Engine, TELL_ENGINE};
use std::time::Duration;

/// The time for a worker to say what it is: a cold disk has half a gigabyte of libraries to read.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// The longest part of another answer that is shown.
const MAX_SHOWN_CHARS: usize = 200;

/// Returns what the worker `built` says that its engine is. It is started with the variables
/// `inherited`.
///
/// # Errors
/// It cannot be started, cannot find a library, or gives no such answer.
pub fn engine_of(
    built: &BuiltWorker,
    inherited: &Variables,
    interrupt: &Interrupt,
) -> Result<Engine, WorkerError> {
    let program = || built.program.clone();
    let mut command = built.command(inherited);
    command.arg(TELL_ENGINE);
    let answer = process::ask(command, LIMIT, MAX_ANSWER_BYTES, interrupt);
    let answer = answer.map_err(|reason| match reason {
        NoAnswer::NotStarted(source) => WorkerError::NotStarted { program: program(), source },
        NoAnswer::TooLate => WorkerError::NoAnswer { program: program(), limit: LIMIT },
        NoAnswer::Interrupted(signal) => WorkerError::Interrupted { program: program(), signal },
    })?;
    let code = answer.status.and_then(|status| status.code());
    if let Some(missing) = MissingLibrary::find(code, &answer.stderr) {
        return Err(missing.into());
    }
    let line = answer.stdout.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(line).map_err(|source| {
        let said = if line.is_empty() { answer.stderr.trim() } else { line };
        let said = said.chars().take(MAX_SHOWN_CHARS).collect();
        WorkerError::BadAnswer { program: program(), said, source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reportable::Reportable;
    use modelgate_protocol::{Failure, FailureKind};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    /// Asks a script.
    fn ask(body: &str) -> Result<Engine, Failure> {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("worker");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a script");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("an executable");
        engine_of(&BuiltWorker::at(path), &Variables::default(), &Interrupt::default())
            .map_err(|error| error.to_failure())
    }

    #[test]
    fn a_worker_says_what_it_was_built_for() {
        let engine =
            ask("test \"$1\" = --engine || exit 9\necho warming up\necho '{\"name\": \"e\", \
             \"version\": \"1\", \"build\": \"b\", \"compute_capability\": \"9.0\", \
             \"cuda\": \"13.0\"}'");
        let engine = engine.expect("an engine");
        assert_eq!(engine.compute_capability.as_deref(), Some("9.0"));
        assert_eq!(engine.cuda.as_deref(), Some("13.0"));
    }

    #[test]
    fn what_it_leaves_behind_is_not_waited_for() {
        let began = Instant::now();
        let engine =
            ask("/bin/sleep 20 &\necho '{\"name\": \"e\", \"version\": \"1\", \"build\": \"b\", \
             \"compute_capability\": null}'");
        assert_eq!(engine.expect("an engine").name, "e");
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    }

    #[test]
    fn one_that_does_not_is_refused_with_what_it_said() {
        for (body, kind, says) in [
            ("echo nonsense", FailureKind::Protocol, "\"nonsense\""),
            ("echo broken >&2; exit 1", FailureKind::Protocol, "\"broken\""),
            (
                "echo 'w: error while loading shared libraries: libcuda.so.1: cannot open shared \
                 object file: No such file or directory' >&2; exit 127",
                FailureKind::NoDevice,
                "libcuda.so.1",
            ),
        ] {
            let failure = ask(body).expect_err("refused");
            assert_eq!(failure.kind, kind, "{failure}");
            assert!(failure.message.contains(says), "expected {says:?} in {failure}");
        }
        let missing = BuiltWorker::at("/no/such/worker".into());
        let failure = engine_of(&missing, &Variables::default(), &Interrupt::default());
        let failure = failure.expect_err("refused").to_failure();
        assert_eq!(failure.kind, FailureKind::NoWorker);
        assert!(failure.message.contains("/no/such/worker"), "{failure}");
    }
}

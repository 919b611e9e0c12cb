//! What a worker program is: asked of itself, before a model on a GPU is trusted to it.

use super::BuiltWorker;
use super::ending::missing_library;
use modelgate_protocol::{Engine, Failure, FailureKind, Stage, TELL_ENGINE};
use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker may take to say what it is: a cold disk has half a gigabyte of libraries to
/// read.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long what it printed may take to arrive after its end.
const GRACE: Duration = Duration::from_secs(1);
/// The longest answer that is read.
const LONGEST: u64 = 64 << 10;
/// How often the answer is looked for.
const POLL: Duration = Duration::from_millis(5);

/// What the worker `built` says that its engine is.
///
/// # Errors
/// It cannot be started, cannot find a library, or does not tell.
pub fn engine_of(built: &BuiltWorker) -> Result<Engine, Failure> {
    let failure = |kind, message: String, hint: &str| {
        let message = format!("{}: {message}", built.program.display());
        Failure::new(Stage::Prepare, kind, message, hint)
    };
    let child = built
        .command()
        .arg(TELL_ENGINE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| {
        failure(
            FailureKind::NoWorker,
            format!("the worker cannot be started: {error}"),
            "MODELGATE_WORKER is the path of an executable",
        )
    })?;
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    let status = wait(&mut child);
    let Some(status) = status else {
        return Err(failure(
            FailureKind::Stalled,
            format!("the worker did not answer {TELL_ENGINE} within {} s", PATIENCE.as_secs()),
            "with this argument a worker prints its engine as one line of JSON and ends",
        ));
    };
    // something that the worker started may hold the pipes open: that is not waited for
    let until = Instant::now() + GRACE;
    let (stdout, stderr) = (said(stdout, until), said(stderr, until));
    if let Some(failure) = missing_library(status.code(), &stderr, Stage::Prepare) {
        return Err(failure);
    }
    let line = stdout.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(line).map_err(|error| {
        let said = if line.is_empty() { stderr.trim() } else { line };
        let said: String = said.chars().take(200).collect();
        failure(
            FailureKind::Protocol,
            format!("the worker does not answer {TELL_ENGINE} by its engine ({error}): {said:?}"),
            "with this argument a worker prints its engine as one line of JSON and ends; a worker \
             built from another version has to be built again",
        )
    })
}

/// Waits for the end; none, and a dead child, where that takes too long.
fn wait(child: &mut Child) -> Option<std::process::ExitStatus> {
    let until = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(POLL),
            _ => {
                // killing fails only where it is gone already
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

/// What was read of a source.
type Said = Arc<Mutex<Vec<u8>>>;

fn read_all(source: impl Read + Send + 'static) -> (Said, JoinHandle<()>) {
    let said = Said::default();
    let shared = Arc::clone(&said);
    let reader = std::thread::spawn(move || {
        let mut source = source.take(LONGEST);
        let mut part = [0; 4096];
        // what cannot be read was not said
        while let Ok(read @ 1..) = source.read(&mut part) {
            shared.lock().unwrap_or_else(PoisonError::into_inner).extend(&part[..read]);
        }
    });
    (said, reader)
}

/// What was read by the end of the source, or `until` then.
fn said(source: Option<(Said, JoinHandle<()>)>, until: Instant) -> String {
    let Some((said, reader)) = source else {
        return String::new();
    };
    while !reader.is_finished() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    String::from_utf8_lossy(&said.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Asks a script.
    fn ask(body: &str) -> Result<Engine, Failure> {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("worker");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a script");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("an executable");
        engine_of(&BuiltWorker::at(path))
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
            ask("sleep 20 &\necho '{\"name\": \"e\", \"version\": \"1\", \"build\": \"b\", \
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
        let failure = engine_of(&BuiltWorker::at("/no/such/worker".into())).expect_err("refused");
        assert_eq!(failure.kind, FailureKind::NoWorker);
        assert!(failure.message.contains("/no/such/worker"), "{failure}");
    }
}

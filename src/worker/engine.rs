//! What a worker says that it was built for.

use super::BuiltWorker;
use modelgate_protocol::{Engine, Failure, FailureKind, Stage, TELL_ENGINE};

/// Asks a worker for its engine.
///
/// # Errors
/// `no_worker`: it cannot be started, or says something else.
pub fn engine_of(built: &BuiltWorker) -> Result<Engine, Failure> {
    let failure = |what: String| {
        Failure::new(
            Stage::Prepare,
            FailureKind::NoWorker,
            format!("{} {TELL_ENGINE}: {what}", built.program.display()),
            "a worker prints its engine as one line of JSON and ends, see the protocol",
        )
    };
    let output = built
        .command()
        .arg(TELL_ENGINE)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| failure(format!("it cannot be started: {error}")))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(failure(format!("{}: {}", output.status, words.trim())));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| failure(format!("expected an engine as JSON: {error}")))
}

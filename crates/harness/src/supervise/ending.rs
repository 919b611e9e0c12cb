//! Converts the end of a worker into an outcome and a failure that names the cause.

use super::control_group::{KillsSince, OutOfMemoryKills};
use super::error::{Cause, SuperviseError};
use crate::measurement::{Outcome, WorkerExit};
use crate::reportable::{BoxedReportable, Reportable};
use crate::signal;
use crate::workers::MissingLibrary;
use modelgate_protocol::{Failure, Stage};

/// Why the harness stopped reading events.
pub(super) enum Ending {
    /// The worker completed all requests.
    Done,
    /// The worker reported a failure.
    Reported(Failure),
    /// The caller stopped the worker, with this reason.
    Refused(BoxedReportable),
    /// The channel closed without a final event, in this stage.
    Silent(Stage),
    /// The harness ended the worker.
    Ended(SuperviseError),
}

impl Ending {
    /// Returns whether the harness must end the worker, because it may still run.
    pub(super) fn is_forced(&self) -> bool {
        !matches!(self, Ending::Done)
    }
}

/// The signal that the out-of-memory killer of Linux sends.
const SIGKILL: i32 = 9;

/// The information about a worker that has ended.
pub(super) struct EndedWorker<'a> {
    /// The exit status of the worker process.
    pub(super) exit: &'a WorkerExit,
    /// The last part of its output.
    pub(super) output: &'a str,
    /// The number of out-of-memory kills before its start.
    pub(super) kills_before: &'a OutOfMemoryKills,
}

/// Returns the outcome of a worker, and the failure that stopped it.
pub(super) fn conclude(ending: Ending, worker: &EndedWorker<'_>) -> (Outcome, Option<Failure>) {
    match ending {
        Ending::Done => match worker.exit {
            WorkerExit { code: Some(0), killed_by_harness: false, .. } => (Outcome::Measured, None),
            _ => silent(Stage::Unload, worker),
        },
        Ending::Reported(failure) => (Outcome::Failed, Some(failure)),
        Ending::Refused(reason) => (Outcome::Failed, Some(reason.to_failure())),
        Ending::Silent(stage) => silent(stage, worker),
        Ending::Ended(error) => (outcome(&error.cause), Some(error.to_failure())),
    }
}

/// Returns the outcome of a worker that the harness ended.
fn outcome(cause: &Cause) -> Outcome {
    match cause {
        Cause::Deadline(_) | Cause::Stalled(_) => Outcome::DeadlineExceeded,
        Cause::Interrupted(_) => Outcome::Interrupted,
        _ => Outcome::Failed,
    }
}

/// Returns the outcome and the failure of a worker that ended without a final event, or not
/// normally after it.
fn silent(stage: Stage, worker: &EndedWorker<'_>) -> (Outcome, Option<Failure>) {
    let library = MissingLibrary::find(worker.exit.code, worker.output);
    let known_cause = library.map(Cause::MissingLibrary).or_else(|| memory_cause(worker));
    let cause = known_cause.unwrap_or_else(|| Cause::Crashed {
        how: how(worker.exit),
        last_output: last_output(worker.output),
    });
    (Outcome::Crashed, Some(cause.in_stage(stage).to_failure()))
}

/// Returns the cause if the worker ended, certainly or probably, because of a lack of memory.
fn memory_cause(worker: &EndedWorker<'_>) -> Option<Cause> {
    if let Some(line) = refused_allocation(worker.output) {
        return Some(Cause::AllocationRefused { line: line.to_owned() });
    }
    if worker.exit.signal != Some(SIGKILL) || worker.exit.killed_by_harness {
        return None;
    }
    match worker.kills_before.since() {
        KillsSince::Some => Some(Cause::OutOfMemory),
        KillsSince::None => None,
        KillsSince::Unknown => Some(Cause::ProbablyOutOfMemory),
    }
}

/// Returns the line of the last 20 in which a runtime reports a refused allocation.
fn refused_allocation(output: &str) -> Option<&str> {
    let patterns =
        ["memory allocation of", "std::bad_alloc", "MemoryError", "Cannot allocate memory"];
    let mut lines = output.lines().rev().take(20);
    lines.find(|line| patterns.iter().any(|pattern| line.contains(pattern))).map(str::trim)
}

/// Returns how the process ended, as the predicate of a sentence about the worker.
fn how(exit: &WorkerExit) -> String {
    match exit {
        WorkerExit { killed_by_harness: true, .. } => {
            "did not end on request and was killed".into()
        }
        WorkerExit { signal: Some(signal), .. } => {
            format!("was killed by {}", signal::name(*signal))
        }
        WorkerExit { code: Some(code), .. } => {
            format!("ended unexpectedly with exit code {code}")
        }
        _ => "ended with an unknown status".into(),
    }
}

/// Returns the last three lines of the output as the end of a message. Empty if there are none.
fn last_output(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(3)..];
    if last.is_empty() { String::new() } else { format!("; last output: {}", last.join(" / ")) }
}

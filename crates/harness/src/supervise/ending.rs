//! How a worker's life ended, as an outcome and a failure that names the culprit.

use super::control_group::{Kills, OutOfMemoryKills};
use super::error::{Cause, SuperviseError};
use crate::measurement::{Outcome, WorkerExit};
use crate::reportable::{BoxedReportable, Reportable};
use crate::signal;
use crate::workers::MissingLibrary;
use modelgate_protocol::{Failure, Stage};

/// Why the harness stopped listening.
pub(super) enum Ending {
    /// All was done.
    Done,
    /// The worker reported a failure.
    Reported(Failure),
    /// The caller does not want the worker to go on.
    Refused(BoxedReportable),
    /// The channel closed without a word.
    Silent(Stage),
    /// The harness ended the worker.
    Ended(SuperviseError),
}

impl Ending {
    /// Whether the harness ends a worker that would go on.
    pub(super) fn is_forced(&self) -> bool {
        !matches!(self, Ending::Done)
    }
}

/// Signals by which Linux ends a process for what is no fault of its own code.
const SIGKILL: i32 = 9;

/// What is left of a worker after its end.
pub(super) struct Remains<'a> {
    /// How its process ended.
    pub(super) exit: &'a WorkerExit,
    /// The end of what it printed.
    pub(super) output: &'a str,
    /// The out-of-memory kills before it was started.
    pub(super) kills: &'a OutOfMemoryKills,
}

/// Returns how far a worker came that ended so, and why it came no further.
pub(super) fn conclude(ending: Ending, remains: &Remains<'_>) -> (Outcome, Option<Failure>) {
    match ending {
        Ending::Done => match remains.exit {
            WorkerExit { code: Some(0), killed_by_harness: false, .. } => (Outcome::Measured, None),
            _ => silent(Stage::Unload, remains),
        },
        Ending::Reported(failure) => (Outcome::Failed, Some(failure)),
        Ending::Refused(reason) => (Outcome::Failed, Some(reason.to_failure())),
        Ending::Silent(stage) => silent(stage, remains),
        Ending::Ended(error) => (outcome(&error.cause), Some(error.to_failure())),
    }
}

/// Returns how far a worker came that the harness ended.
fn outcome(cause: &Cause) -> Outcome {
    match cause {
        Cause::Deadline(_) | Cause::Stalled(_) => Outcome::DeadlineExceeded,
        Cause::Interrupted(_) => Outcome::Interrupted,
        _ => Outcome::Failed,
    }
}

fn silent(stage: Stage, remains: &Remains<'_>) -> (Outcome, Option<Failure>) {
    let library = MissingLibrary::find(remains.exit.code, remains.output);
    let known = library.map(Cause::MissingLibrary).or_else(|| memory_cause(remains));
    let cause = known.unwrap_or_else(|| Cause::Crashed {
        how: how(remains.exit),
        last_words: last_words(remains.output),
    });
    (Outcome::Crashed, Some(cause.in_stage(stage).to_failure()))
}

/// Returns the cause if it is memory, for certain or probably.
fn memory_cause(remains: &Remains<'_>) -> Option<Cause> {
    if let Some(line) = refused_allocation(remains.output) {
        return Some(Cause::AllocationRefused { line: line.to_owned() });
    }
    if remains.exit.signal != Some(SIGKILL) || remains.exit.killed_by_harness {
        return None;
    }
    match remains.kills.since() {
        Kills::Some => Some(Cause::OutOfMemory),
        Kills::None => None,
        Kills::Unknown => Some(Cause::ProbablyOutOfMemory),
    }
}

/// The line by which a runtime says that an allocation was refused.
fn refused_allocation(output: &str) -> Option<&str> {
    let words = ["memory allocation of", "std::bad_alloc", "MemoryError", "Cannot allocate memory"];
    output.lines().rev().take(20).find(|line| words.iter().any(|w| line.contains(w))).map(str::trim)
}

fn how(exit: &WorkerExit) -> String {
    match exit {
        WorkerExit { killed_by_harness: true, .. } => {
            "did not end when it was asked to, and was killed".into()
        }
        WorkerExit { signal: Some(signal), .. } => {
            format!("was ended by {}", signal::name(*signal))
        }
        WorkerExit { code: Some(code), .. } => {
            format!("ended with exit code {code} before all was done")
        }
        _ => "ended in a way that the system does not tell".into(),
    }
}

fn last_words(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(3)..];
    if last.is_empty() { String::new() } else { format!("; its last words: {}", last.join(" / ")) }
}

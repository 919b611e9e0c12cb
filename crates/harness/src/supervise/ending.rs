//! How a worker's life ended, as an outcome and a failure that names the culprit.

use super::control_group::{Kills, OutOfMemoryKills};
use crate::measurement::{Outcome, WorkerExit};
use crate::signal;
use crate::workers::missing_library;
use modelgate_model::units::format_duration;
use modelgate_protocol::{Failure, FailureKind, Stage};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Why the harness stopped listening.
pub(super) enum Ending {
    /// All was done.
    Done,
    /// The worker, or what it sent, was at fault.
    Said(Failure),
    /// The channel closed without a word.
    Silent(Stage),
    /// The deadline passed.
    Deadline(Duration, Stage),
    /// There was no progress.
    Stalled(Duration, Stage),
    /// A signal came to the harness.
    Interrupted(i32, Stage),
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
        Ending::Said(failure) => (Outcome::Failed, Some(failure)),
        Ending::Silent(stage) => silent(stage, remains),
        Ending::Deadline(limit, stage) => (
            Outcome::DeadlineExceeded,
            Some(Failure::new(
                stage,
                FailureKind::Deadline,
                format!("the worker was ended after its deadline of {}", format_duration(limit)),
                "the phases in the report show where the time went; allow more with `deadline` in \
                 the manifest",
            )),
        ),
        Ending::Stalled(limit, stage) => (
            Outcome::DeadlineExceeded,
            Some(Failure::new(
                stage,
                FailureKind::Stalled,
                format!("the worker made no progress for {} and was ended", format_duration(limit)),
                "a hanging disk, network file system or driver; allow more with `stall` in the \
                 manifest",
            )),
        ),
        Ending::Interrupted(signal, stage) => (
            Outcome::Interrupted,
            Some(Failure::new(
                stage,
                FailureKind::Interrupted,
                format!("{} ended the run", signal::name(signal)),
                "start the run again",
            )),
        ),
    }
}

/// Returns the failure for a worker that could not be started.
pub(super) fn not_started(program: &Path, error: &io::Error) -> Failure {
    let memory = error.raw_os_error() == Some(12); // ENOMEM: fork under a limit
    Failure::new(
        Stage::Start,
        if memory { FailureKind::HostMemory } else { FailureKind::NoWorker },
        format!("{}: the worker cannot be started: {error}", program.display()),
        "MODELGATE_WORKER is the path of an executable; without it the one built with the tests \
         is used",
    )
}

fn silent(stage: Stage, remains: &Remains<'_>) -> (Outcome, Option<Failure>) {
    let library = missing_library(remains.exit.code, remains.output, stage);
    let known = library.or_else(|| memory_failure(stage, remains));
    let failure = known.unwrap_or_else(|| {
        Failure::new(
            stage,
            FailureKind::Crashed,
            format!("the worker {}{}", how(remains.exit), last_words(remains.output)),
            "the report keeps the last 64 KiB of what the worker wrote; a crash inside a driver \
             shows there or in the system's log",
        )
    });
    (Outcome::Crashed, Some(failure))
}

/// The failure where memory is the cause, certain or probable.
fn memory_failure(stage: Stage, remains: &Remains<'_>) -> Option<Failure> {
    let hint = "choose fewer bits or a shorter context, free memory, or raise the limit of the \
                container; the report's timeline shows how far it came";
    let failure =
        |message: String| Some(Failure::new(stage, FailureKind::HostMemory, message, hint));
    if let Some(line) = refused_allocation(remains.output) {
        return failure(format!("an allocation of host memory failed: {line}"));
    }
    if remains.exit.signal != Some(SIGKILL) || remains.exit.killed_by_harness {
        return None;
    }
    match remains.kills.since() {
        Kills::Some => failure(
            "the system killed the worker because host memory ran out (the control group counts \
             an out-of-memory kill)"
                .into(),
        ),
        Kills::None => None,
        Kills::Unknown => failure(
            "the worker was killed (SIGKILL), probably because host memory ran out: no control \
             group says so for certain"
                .into(),
        ),
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

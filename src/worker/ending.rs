//! How a worker's life ended, as an outcome and a failure that names the culprit.

use super::control_group::{Kills, OutOfMemoryKills};
use crate::manifest::format_duration;
use crate::signal;
use modelgate_protocol::{Failure, FailureKind, Measurement, Outcome, Stage, WorkerExit};
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

/// The exit code by which the loader, and a shell, say that a program could not be loaded.
const NOT_LOADED: i32 = 127;
/// What the loader of glibc says then, before the library's name.
const LOADER_SAYS: &str = "error while loading shared libraries: ";

/// Sets outcome and failure.
pub(super) fn conclude(measurement: &mut Measurement, ending: Ending, kills: &OutOfMemoryKills) {
    let (outcome, failure) = match ending {
        Ending::Done => match measurement.worker_exit {
            Some(WorkerExit { code: Some(0), killed_by_harness: false, .. }) => {
                (Outcome::Measured, None)
            }
            _ => silent(measurement, Stage::Unload, kills),
        },
        Ending::Said(failure) => (Outcome::Failed, Some(failure)),
        Ending::Silent(stage) => silent(measurement, stage, kills),
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
    };
    measurement.outcome = outcome;
    measurement.failure = failure;
}

/// The failure for a worker that could not be started.
pub(super) fn no_worker(measurement: &mut Measurement, program: &Path, error: &io::Error) {
    let memory = error.raw_os_error() == Some(12); // ENOMEM: fork under a limit
    measurement.outcome = Outcome::Failed;
    measurement.failure = Some(Failure::new(
        Stage::Start,
        if memory { FailureKind::HostMemory } else { FailureKind::NoWorker },
        format!("{}: the worker cannot be started: {error}", program.display()),
        "MODELGATE_WORKER is the path of an executable; without it the one built with the tests \
         is used",
    ));
}

fn silent(
    measurement: &Measurement,
    stage: Stage,
    kills: &OutOfMemoryKills,
) -> (Outcome, Option<Failure>) {
    let exit = measurement.worker_exit.as_ref();
    let code = exit.and_then(|exit| exit.code);
    let library = missing_library(code, &measurement.worker_stderr, stage);
    let known = library.or_else(|| memory_failure(measurement, stage, kills));
    let failure = known.unwrap_or_else(|| {
        Failure::new(
            stage,
            FailureKind::Crashed,
            format!("the worker {}{}", how(exit), last_words(&measurement.worker_stderr)),
            "the report keeps the last 64 KiB of what the worker wrote; a crash inside a driver \
             shows there or in the system's log",
        )
    });
    (Outcome::Crashed, Some(failure))
}

/// The failure where the system's loader did not find a library that the worker is linked to.
pub(super) fn missing_library(code: Option<i32>, output: &str, stage: Stage) -> Option<Failure> {
    if code != Some(NOT_LOADED) {
        return None;
    }
    let line = output.lines().find(|line| line.contains(LOADER_SAYS))?;
    let library = line.split_once(LOADER_SAYS)?.1.split(':').next()?.trim();
    let (kind, hint) = if library.starts_with("libcuda.so") || library.starts_with("libnvidia") {
        (
            FailureKind::NoDevice,
            "this library comes with NVIDIA's driver: install the driver, or give the container \
             the GPU and the driver's libraries",
        )
    } else if library.starts_with("libcu") || library.starts_with("libnv") {
        (
            FailureKind::NoWorker,
            "this library comes with the CUDA toolkit that the worker was built with: install that \
             version, or name the folder that holds the library in LD_LIBRARY_PATH",
        )
    } else {
        (
            FailureKind::NoWorker,
            "install the library, or name the folder that holds it in LD_LIBRARY_PATH",
        )
    };
    let message = format!("the worker cannot be started, for it does not find {library}: {line}");
    Some(Failure::new(stage, kind, message, hint))
}

/// The failure where memory is the cause, certain or probable.
fn memory_failure(
    measurement: &Measurement,
    stage: Stage,
    kills: &OutOfMemoryKills,
) -> Option<Failure> {
    let hint = "choose fewer bits or a shorter context, free memory, or raise the limit of the \
                container; the report's timeline shows how far it came";
    let failure =
        |message: String| Some(Failure::new(stage, FailureKind::HostMemory, message, hint));
    if let Some(line) = refused_allocation(&measurement.worker_stderr) {
        return failure(format!("an allocation of host memory failed: {line}"));
    }
    let exit = measurement.worker_exit.as_ref()?;
    if exit.signal != Some(SIGKILL) || exit.killed_by_harness {
        return None;
    }
    match kills.since() {
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

fn how(exit: Option<&WorkerExit>) -> String {
    match exit {
        Some(WorkerExit { killed_by_harness: true, .. }) => {
            "did not end when it was asked to, and was killed".into()
        }
        Some(WorkerExit { signal: Some(signal), .. }) => {
            format!("was ended by {}", signal::name(*signal))
        }
        Some(WorkerExit { code: Some(code), .. }) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_found_is_named_with_where_it_comes_from() {
        for (library, kind, hint) in [
            ("libcuda.so.1", FailureKind::NoDevice, "NVIDIA's driver"),
            ("libcudart.so.13", FailureKind::NoWorker, "CUDA toolkit"),
            ("libcublas.so.13", FailureKind::NoWorker, "CUDA toolkit"),
            ("libstdc++.so.6", FailureKind::NoWorker, "install the library"),
        ] {
            let output = format!(
                "noise\n/w/modelgate-worker: error while loading shared libraries: {library}: \
                 cannot open shared object file: No such file or directory\n"
            );
            let failure = missing_library(Some(127), &output, Stage::Start).expect("a failure");
            assert_eq!(failure.kind, kind, "{failure}");
            assert!(failure.message.contains(&format!("does not find {library}: ")), "{failure}");
            assert!(failure.hint.contains(hint), "{}", failure.hint);
            assert_eq!(missing_library(Some(1), &output, Stage::Start), None);
        }
        assert_eq!(missing_library(Some(127), "sh: 1: x: not found", Stage::Start), None);
    }
}

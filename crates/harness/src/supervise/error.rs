//! Why the harness ended a worker, or the worker ended itself, before all was done.

use crate::reportable::Reportable;
use crate::signal;
use crate::workers::MissingLibrary;
use modelgate_model::units::format_duration;
use modelgate_protocol::{Device, FailureKind, Stage};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// `fork` under a limit of memory.
const ENOMEM: i32 = 12;

/// Why a worker did not do all that it was asked, if it did not say so itself.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(crate) struct SuperviseError {
    /// The stage that the worker was in.
    pub(crate) stage: Stage,
    /// What happened.
    pub(crate) cause: Cause,
}

/// What ended a worker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    /// The operating system does not start it.
    #[error("{}: the worker cannot be started: {source}", program.display())]
    NotStarted { program: PathBuf, source: io::Error },
    /// What it sent is not of the protocol.
    #[error("{0}")]
    Protocol(String),
    /// It opened another GPU than the one that it was given.
    #[error("the worker opened {uuid} as {device}, {expected}")]
    WrongDevice { device: Device, uuid: String, expected: String },
    /// It was not done at its deadline.
    #[error("the worker was ended after its deadline of {}", format_duration(*_0))]
    Deadline(Duration),
    /// It made no progress.
    #[error("the worker made no progress for {} and was ended", format_duration(*_0))]
    Stalled(Duration),
    /// A signal came to the harness.
    #[error("{} ended the run", signal::name(*_0))]
    Interrupted(i32),
    /// The loader does not find one of its libraries.
    #[error(transparent)]
    MissingLibrary(MissingLibrary),
    /// Its runtime was refused an allocation.
    #[error("an allocation of host memory failed: {line}")]
    AllocationRefused { line: String },
    /// The kernel killed it because memory ran out.
    #[error(
        "the system killed the worker because host memory ran out (the control group counts an \
         out-of-memory kill)"
    )]
    OutOfMemory,
    /// It was killed, and no control group says why.
    #[error(
        "the worker was killed (SIGKILL), probably because host memory ran out: no control group \
         says so for certain"
    )]
    ProbablyOutOfMemory,
    /// It ended without a report of its end.
    #[error("the worker {how}{last_words}")]
    Crashed { how: String, last_words: String },
}

impl Cause {
    /// Returns the error for a worker in that stage.
    pub(crate) fn in_stage(self, stage: Stage) -> SuperviseError {
        SuperviseError { stage, cause: self }
    }
}

impl Reportable for SuperviseError {
    fn stage(&self) -> Stage {
        self.stage
    }

    fn kind(&self) -> FailureKind {
        match &self.cause {
            Cause::NotStarted { source, .. } if source.raw_os_error() == Some(ENOMEM) => {
                FailureKind::HostMemory
            }
            Cause::NotStarted { .. } => FailureKind::NoWorker,
            Cause::Protocol(_) => FailureKind::Protocol,
            Cause::WrongDevice { .. } => FailureKind::DeviceMismatch,
            Cause::Deadline(_) => FailureKind::Deadline,
            Cause::Stalled(_) => FailureKind::Stalled,
            Cause::Interrupted(_) => FailureKind::Interrupted,
            Cause::MissingLibrary(missing) => missing.kind(),
            Cause::AllocationRefused { .. } | Cause::OutOfMemory | Cause::ProbablyOutOfMemory => {
                FailureKind::HostMemory
            }
            Cause::Crashed { .. } => FailureKind::Crashed,
        }
    }

    fn hint(&self) -> String {
        let hint = match &self.cause {
            Cause::NotStarted { .. } => {
                "MODELGATE_WORKER is the path of an executable; without it the one built with the \
                 tests is used"
            }
            Cause::Protocol(_) => {
                "the worker must speak this version's protocol: see its schema; a worker built \
                 from another version has to be built again"
            }
            Cause::WrongDevice { .. } => {
                "the harness lists the GPUs in CUDA_VISIBLE_DEVICES, and a worker must count them \
                 as CUDA does then; what changes that variable in front of the worker, such as a \
                 wrapper, has to leave it"
            }
            Cause::Deadline(_) => {
                "the phases in the report show where the time went; allow more with `deadline` in \
                 the manifest"
            }
            Cause::Stalled(_) => {
                "a hanging disk, network file system or driver; allow more with `stall` in the \
                 manifest"
            }
            Cause::Interrupted(_) => "start the run again",
            Cause::MissingLibrary(missing) => missing.hint(),
            Cause::AllocationRefused { .. } | Cause::OutOfMemory | Cause::ProbablyOutOfMemory => {
                "choose fewer bits or a shorter context, free memory, or raise the limit of the \
                 container; the report's timeline shows how far it came"
            }
            Cause::Crashed { .. } => {
                "the report keeps the last 64 KiB of what the worker wrote; a crash inside a \
                 driver shows there or in the system's log"
            }
        };
        hint.to_owned()
    }
}

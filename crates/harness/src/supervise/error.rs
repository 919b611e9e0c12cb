//! The errors for a worker that ended before it completed all requests.

use crate::reportable::Reportable;
use crate::signal;
use crate::workers::MissingLibrary;
use modelgate_model::units::format_duration;
use modelgate_protocol::{Device, FailureKind, Stage};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The error number of `fork` if a memory limit is exceeded.
const ENOMEM: i32 = 12;

/// The end of a worker that did not complete its requests, and did not report a failure itself.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(crate) struct SuperviseError {
    /// The stage in which the worker ended.
    pub(crate) stage: Stage,
    /// The cause of the end.
    pub(crate) cause: Cause,
}

/// The cause of the end of a worker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    /// The operating system could not start the worker.
    #[error("{}: the worker cannot be started: {source}", program.display())]
    NotStarted { program: PathBuf, source: io::Error },
    /// The worker sent a line that the protocol does not allow, with a message for the report.
    #[error("{0}")]
    Protocol(String),
    /// The operating system reported an error for the event channel.
    #[error("event channel of the worker: {0}")]
    ChannelNotRead(io::Error),
    /// The worker opened a GPU that is not the assigned one.
    #[error("{device}: the worker opened {uuid}, {expected}")]
    WrongDevice { device: Device, uuid: String, expected: String },
    /// The worker was not finished at its deadline.
    #[error("the worker exceeded its deadline of {} and was killed", format_duration(*_0))]
    Deadline(Duration),
    /// The worker made no progress for this time.
    #[error("the worker made no progress for {} and was ended", format_duration(*_0))]
    Stalled(Duration),
    /// The harness received the signal with this number.
    #[error("{} ended the run", signal::name(*_0))]
    Interrupted(i32),
    /// The loader did not find a library of the worker.
    #[error(transparent)]
    MissingLibrary(MissingLibrary),
    /// The runtime of the worker refused an allocation of host memory and printed this line.
    #[error("an allocation of host memory failed: {line}")]
    AllocationRefused { line: String },
    /// The kernel killed the worker because host memory ran out.
    #[error(
        "the kernel killed the worker because host memory ran out: the control group counted an \
         out-of-memory kill"
    )]
    OutOfMemory,
    /// The worker was killed, and no control group counts out-of-memory kills.
    #[error(
        "the worker was killed (SIGKILL), probably because host memory ran out: no control group \
         counts out-of-memory kills"
    )]
    ProbablyOutOfMemory,
    /// The worker ended without a final event.
    #[error("the worker {how}{last_output}")]
    Crashed { how: String, last_output: String },
}

impl Cause {
    /// Returns the error of a worker that ended in `stage`.
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
            Cause::NotStarted { .. } => FailureKind::WorkerNotFound,
            Cause::Protocol(_) => FailureKind::Protocol,
            Cause::ChannelNotRead(_) => FailureKind::Io,
            Cause::WrongDevice { .. } => FailureKind::DeviceMismatch,
            Cause::Deadline(_) => FailureKind::DeadlineExceeded,
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
                "set MODELGATE_WORKER to the path of an executable; or unset it to use the worker \
                 that was built with the tests"
            }
            Cause::Protocol(_) => {
                "use a worker that implements this version of the protocol \
                 (schemas/event.json); or rebuild the worker from the sources of this version"
            }
            Cause::WrongDevice { .. } => {
                "number the GPUs in the worker as CUDA does, in the order of CUDA_VISIBLE_DEVICES, \
                 which the harness sets; remove any wrapper that changes this variable"
            }
            Cause::Deadline(_) => {
                "read the durations of the phases in the report to find the slow one; or increase `deadline` in \
                 the manifest"
            }
            Cause::Stalled(_) => {
                "check the disk, the network file system and the driver for a hang; or increase \
                 `stall` in the manifest"
            }
            Cause::ChannelNotRead(_) | Cause::Interrupted(_) => "start the run again",
            Cause::MissingLibrary(missing) => missing.hint(),
            Cause::AllocationRefused { .. } | Cause::OutOfMemory | Cause::ProbablyOutOfMemory => {
                "choose fewer bits or a shorter context; or free memory; or raise the memory limit \
                 of the container; see the memory over time in the timeline of the report"
            }
            Cause::Crashed { .. } => {
                "read the end of the worker output in the report (the last 64 KiB); or, if a \
                 driver crashed, read the system log"
            }
        };
        hint.to_owned()
    }
}

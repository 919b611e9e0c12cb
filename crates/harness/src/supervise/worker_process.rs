//! The process of a worker: it starts with an event channel, and ends in two steps (a request, then
//! a kill).

use super::channel::{self, Line};
use crate::measurement::WorkerExit;
use crate::process::{KillScope, OutputBuffer, Process, ProcessEnd};
use crate::settings::variables::CUDA_VISIBLE_DEVICES;
use crate::workers::BuiltWorker;
use command_fds::{CommandFdExt, FdMapping};
use modelgate_hub::Variables;
use modelgate_protocol::{EVENTS_FD, Request};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// The file descriptor of the event channel in the worker.
const EVENTS_FD_NUMBER: i32 = 3;
/// The number of bytes kept from the end of standard output and standard error.
const MAX_OUTPUT_BYTES: usize = 64 << 10;
/// How long a worker may take to end after the request to end.
const GRACE: Duration = Duration::from_secs(2);
/// How long the output may take to arrive after the end of the worker.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);
/// Variables of candle that disable quantization. A worker must not inherit them.
const NOT_INHERITED: [&str; 2] = ["CANDLE_DEQUANTIZE_ALL", "CANDLE_DEQUANTIZE_ALL_F16"];

/// The variable that makes CUDA number devices in the order of `nvidia-smi`. The worker sees them
/// by UUID in any case.
const DEVICE_ORDER: (&str, &str) = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID");

/// A running worker.
pub(super) struct Worker {
    process: Process,
    spawned: Instant,
    /// Dropped to close the standard input of the worker.
    input: Option<SyncSender<()>>,
    lines: Receiver<Line>,
    output: OutputBuffer,
}

impl Worker {
    /// Starts the worker program of `built` with the environment variables in `inherited`, and sends it
    /// `request`. Only
    /// the GPUs with these UUIDs are visible to it, in this order.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(super) fn spawn(
        built: &BuiltWorker,
        inherited: &Variables,
        request: &Request,
        gpus: &[&str],
    ) -> io::Result<Worker> {
        let line = serde_json::to_string(request)?;
        let (reader, writer) = io::pipe()?;
        let mut command = built.command(inherited);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        command
            .env(EVENTS_FD, EVENTS_FD_NUMBER.to_string())
            .env(CUDA_VISIBLE_DEVICES, gpus.join(","))
            .env(DEVICE_ORDER.0, DEVICE_ORDER.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .fd_mappings(vec![FdMapping { parent_fd: writer.into(), child_fd: EVENTS_FD_NUMBER }])
            .map_err(io::Error::other)?;
        let spawned = Instant::now();
        // the command holds a copy of the writing end of the channel, and is dropped here:
        // otherwise, the channel would stay open after the end of the worker
        let mut process = Process::start(command, KillScope::Descendants)?;
        let output = OutputBuffer::default();
        process.read_stdout(output.tail(MAX_OUTPUT_BYTES));
        process.read_stderr(output.tail(MAX_OUTPUT_BYTES));
        let input = process.take_stdin().map(|stdin| send_and_keep_open(stdin, line));
        let lines = channel::read(File::from(OwnedFd::from(reader)));
        Ok(Worker { process, spawned, input, lines, output })
    }

    /// Returns the process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns the time at which the worker was started.
    pub(super) fn spawned(&self) -> Instant {
        self.spawned
    }

    /// Returns the receiver of the events of the worker.
    pub(super) fn lines(&self) -> &Receiver<Line> {
        &self.lines
    }

    /// Returns whether the process has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Asks the worker to end by closing its standard input, kills it if it does not, and reaps it.
    /// A forced end leaves the worker half of the time.
    pub(super) fn end(&mut self, forced: bool) -> WorkerExit {
        drop(self.input.take());
        let ProcessEnd { status, killed } =
            self.process.end(if forced { GRACE / 2 } else { GRACE });
        WorkerExit {
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            killed_by_harness: killed,
        }
    }

    /// Returns the last part of the standard output and standard error, as far as they arrive
    /// within [`OUTPUT_GRACE`].
    pub(super) fn output(&mut self) -> String {
        self.process.join_readers(OUTPUT_GRACE);
        self.output.text()
    }
}

/// Writes the request, which may be longer than the buffer of the pipe, and keeps the pipe open
/// until the returned sender is dropped.
fn send_and_keep_open(mut stdin: ChildStdin, line: String) -> SyncSender<()> {
    let (open, closed) = sync_channel(0);
    std::thread::spawn(move || {
        // a worker that has ended already shows this in its exit status
        let _ = writeln!(stdin, "{line}");
        let _ = closed.recv();
    });
    open
}

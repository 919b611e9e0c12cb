//! The worker's process: started with an event channel of its own, ended in two steps.

use super::channel::{self, Line};
use crate::measurement::WorkerExit;
use crate::process::{Ended, Process, Scope, Shared};
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

/// The worker's end of the event channel.
const EVENTS: i32 = 3;
/// Bytes that are kept of the end of standard output and standard error.
const MAX_OUTPUT_BYTES: usize = 64 << 10;
/// The time for a worker to end after it was asked to.
const GRACE: Duration = Duration::from_secs(2);
/// The time for what it printed to arrive after its end.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);
/// Candle's switches that turn quantization off; a worker must not inherit them.
const NOT_INHERITED: [&str; 2] = ["CANDLE_DEQUANTIZE_ALL", "CANDLE_DEQUANTIZE_ALL_F16"];

/// Makes CUDA count devices as `nvidia-smi` does; the worker sees them by UUID all the same.
const DEVICE_ORDER: (&str, &str) = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID");

/// A running worker.
pub(super) struct Worker {
    process: Process,
    spawned: Instant,
    /// Dropped to close the worker's standard input.
    input: Option<SyncSender<()>>,
    lines: Receiver<Line>,
    output: Shared,
}

impl Worker {
    /// Starts the program of `built` with the variables `inherited`, and sends it `request`. Only the
    /// GPUs with these UUIDs are visible to it, in this order.
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
            .env(EVENTS_FD, EVENTS.to_string())
            .env(CUDA_VISIBLE_DEVICES, gpus.join(","))
            .env(DEVICE_ORDER.0, DEVICE_ORDER.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .fd_mappings(vec![FdMapping { parent_fd: writer.into(), child_fd: EVENTS }])
            .map_err(io::Error::other)?;
        let spawned = Instant::now();
        // the command, which is dropped here, holds the parent's copy of the channel's writing end:
        // with it the channel would stay open after the worker's end
        let mut process = Process::start(command, Scope::Descendants)?;
        let output = Shared::default();
        process.read_stdout(output.tail(MAX_OUTPUT_BYTES));
        process.read_stderr(output.tail(MAX_OUTPUT_BYTES));
        let input = process.take_stdin().map(|stdin| send_and_hold(stdin, line));
        let lines = channel::read(File::from(OwnedFd::from(reader)));
        Ok(Worker { process, spawned, input, lines, output })
    }

    /// Returns the process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns when it was started.
    pub(super) fn spawned(&self) -> Instant {
        self.spawned
    }

    /// Returns its events.
    pub(super) fn lines(&self) -> &Receiver<Line> {
        &self.lines
    }

    /// Returns whether the process is gone.
    pub(super) fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Asks the worker to end by closing its standard input, kills it if it does not, and reaps it. A
    /// forced end leaves it less time.
    pub(super) fn end(&mut self, forced: bool) -> WorkerExit {
        drop(self.input.take());
        let Ended { status, killed } = self.process.end(if forced { GRACE / 2 } else { GRACE });
        WorkerExit {
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            killed_by_harness: killed,
        }
    }

    /// Returns the end of what the worker wrote to standard output and standard error.
    pub(super) fn output(&mut self) -> String {
        self.process.join_readers(OUTPUT_GRACE);
        self.output.text()
    }
}

/// Writes the request, which may be longer than the pipe holds, and keeps the pipe open until the sender
/// that it returns is dropped.
fn send_and_hold(mut stdin: ChildStdin, line: String) -> SyncSender<()> {
    let (open, closed) = sync_channel(0);
    std::thread::spawn(move || {
        // a worker that ended already shows as such in its exit status
        let _ = writeln!(stdin, "{line}");
        let _ = closed.recv();
    });
    open
}

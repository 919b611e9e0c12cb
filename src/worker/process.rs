//! The worker's process: spawned with a channel of its own, ended in two steps, always reaped.

use super::BuiltWorker;
use super::channel::{self, Line};
use crate::env::CUDA_VISIBLE_DEVICES;
use command_fds::{CommandFdExt, FdMapping};
use modelgate_protocol::{EVENTS_FD, Request, WorkerExit};
use rustix::process::{Pid, Signal};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The worker's end of the event channel.
const EVENTS: i32 = 3;
/// What is kept of standard output and standard error.
const TAIL: usize = 64 << 10;
/// How long a worker may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(2);
/// Candle's switches that turn quantization off; a worker must not inherit them.
const NOT_INHERITED: [&str; 2] = ["CANDLE_DEQUANTIZE_ALL", "CANDLE_DEQUANTIZE_ALL_F16"];

/// Makes CUDA count devices as `nvidia-smi` does; the worker sees them by UUID all the same.
const DEVICE_ORDER: (&str, &str) = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID");

/// A running worker.
pub(super) struct Worker {
    child: Child,
    spawned: Instant,
    /// Dropped to close the worker's standard input.
    input: Option<SyncSender<()>>,
    lines: Receiver<Line>,
    output: Arc<Mutex<VecDeque<u8>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Worker {
    /// Starts the program of `built`, to which just the GPUs with these UUIDs are visible, in this
    /// order, and sends it `request`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(super) fn spawn(
        built: &BuiltWorker,
        request: &Request,
        gpus: &[&str],
    ) -> io::Result<Worker> {
        let line = serde_json::to_string(request)?;
        let (reader, writer) = io::pipe()?;
        let mut command = built.command();
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
        let mut child = command.spawn()?;
        // the command holds the parent's copy of the channel's writing end: without this drop the
        // channel would stay open after the worker's end
        drop(command);
        let output = Arc::new(Mutex::new(VecDeque::new()));
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(keep_tail(stdout, Arc::clone(&output)));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(keep_tail(stderr, Arc::clone(&output)));
        }
        let input = child.stdin.take().map(|stdin| send_and_hold(stdin, line));
        Ok(Worker {
            child,
            spawned,
            input,
            lines: channel::read(File::from(std::os::fd::OwnedFd::from(reader))),
            output,
            readers,
        })
    }

    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was started.
    pub(super) fn spawned(&self) -> Instant {
        self.spawned
    }

    /// Its events.
    pub(super) fn lines(&self) -> &Receiver<Line> {
        &self.lines
    }

    /// Whether the process is gone.
    pub(super) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// Asks the worker to end by closing its standard input, kills it where it does not, and reaps
    /// it. A forced end leaves it less time.
    pub(super) fn end(&mut self, forced: bool) -> WorkerExit {
        drop(self.input.take());
        let grace = if forced { GRACE / 2 } else { GRACE };
        let asked = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return exit(status, false),
                Ok(None) if asked.elapsed() < grace => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                // killing fails only where a process is gone already
                _ => {
                    for pid in descendants(self.child.id()) {
                        let _ = rustix::process::kill_process(pid, Signal::KILL);
                    }
                    let _ = self.child.kill();
                    return match self.child.wait() {
                        Ok(status) => exit(status, true),
                        Err(_) => WorkerExit { code: None, signal: None, killed_by_harness: true },
                    };
                }
            }
        }
    }

    /// The last that the worker wrote to standard output and standard error.
    pub(super) fn output_tail(&mut self) -> String {
        // a grandchild may hold the pipes open: what has not come by then is not waited for
        let until = Instant::now() + Duration::from_millis(200);
        for reader in self.readers.drain(..) {
            while !reader.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let (front, back) = output.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).into_owned()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // a panic between spawn and end must not leave a process behind
        if !self.has_ended() {
            self.end(true);
        }
    }
}

/// Writes the request, which may be longer than the pipe holds, and keeps the pipe open until the
/// sender that it gives is dropped.
fn send_and_hold(mut stdin: ChildStdin, line: String) -> SyncSender<()> {
    let (open, closed) = sync_channel(0);
    std::thread::spawn(move || {
        // a worker that ended already shows as such in its exit status
        let _ = writeln!(stdin, "{line}");
        let _ = closed.recv();
    });
    open
}

/// Children of process `pid` and theirs: a script in front of a worker leaves them behind.
fn descendants(pid: u32) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            if let Ok(raw) = child.parse::<i32>()
                && let Some(pid) = Pid::from_raw(raw)
                && !found.contains(&pid)
            {
                found.push(pid);
                open.push(raw.unsigned_abs());
            }
        }
    }
    found
}

fn exit(status: ExitStatus, killed_by_harness: bool) -> WorkerExit {
    WorkerExit { code: status.code(), signal: status.signal(), killed_by_harness }
}

fn keep_tail(
    mut source: impl Read + Send + 'static,
    output: Arc<Mutex<VecDeque<u8>>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = source.read(&mut buffer) {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.extend(&buffer[..read]);
            let excess = output.len().saturating_sub(TAIL);
            output.drain(..excess);
        }
    })
}

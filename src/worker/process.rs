//! The worker's process: spawned with a channel of its own, ended in two steps, always reaped.

use super::channel::{self, Line};
use command_fds::{CommandFdExt, FdMapping};
use modelgate_protocol::{EVENTS_FD, Request, WorkerExit};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The worker's end of the event channel.
const EVENTS: i32 = 3;
/// What is kept of standard output and standard error.
const TAIL: usize = 64 << 10;
/// How long a worker may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(2);
/// Candle's switches that turn quantization off; a worker must not inherit them.
const NOT_INHERITED: [&str; 4] =
    ["CANDLE_DEQUANTIZE_ALL", "CANDLE_DEQUANTIZE_ALL_F16", "HF_TOKEN", "HUGGINGFACE_HUB_TOKEN"];

/// A running worker.
pub(super) struct Worker {
    child: Child,
    spawned: Instant,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    output: Arc<Mutex<VecDeque<u8>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Worker {
    /// Starts `program` and sends it `request`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(super) fn spawn(program: &Path, request: &Request) -> io::Result<Worker> {
        let line = serde_json::to_string(request)?;
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        command
            .env(EVENTS_FD, EVENTS.to_string())
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
        let stdin = child.stdin.take();
        let mut worker = Worker {
            child,
            spawned,
            stdin,
            lines: channel::read(File::from(std::os::fd::OwnedFd::from(reader))),
            output,
            readers,
        };
        worker.send(line);
        Ok(worker)
    }

    /// Sends the request from a thread: a worker that never reads must not block the harness.
    fn send(&mut self, line: String) {
        let Some(mut stdin) = self.stdin.take() else {
            return;
        };
        // fits the pipe's buffer as a rule; where it does not, the write waits for the reader
        let fits = line.len() < 60_000;
        if fits {
            // a worker that ended already shows as such in its exit status
            let _ = writeln!(stdin, "{line}");
            self.stdin = Some(stdin);
        } else {
            let (back, given) = std::sync::mpsc::sync_channel(1);
            std::thread::spawn(move || {
                let _ = writeln!(stdin, "{line}");
                let _ = back.send(stdin);
            });
            self.stdin = given.recv_timeout(Duration::from_secs(10)).ok();
        }
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
        drop(self.stdin.take());
        let grace = if forced { GRACE / 2 } else { GRACE };
        let asked = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return exit(status, false),
                Ok(None) if asked.elapsed() < grace => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                // killing fails only where the process is gone already
                _ => {
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

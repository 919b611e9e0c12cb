//! Child processes: started with threads that read their output, ended in two steps, always reaped.
//!
//! All programs that the harness starts run through this file: workers, cargo, nvcc.

use crate::signal::Interrupt;
use rustix::process::{Pid, Signal};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time between two checks of a child.
const INTERVAL: Duration = Duration::from_millis(5);

/// The processes that end together with a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KillScope {
    /// The child and its descendants. They stay in the process group of the harness, so that a
    /// signal of a terminal or a test runner reaches them too.
    Descendants,
    /// The process group of the child, which contains only the child and its descendants.
    Group,
}

/// A running child process. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    scope: KillScope,
    status: Option<ExitStatus>,
    readers: Vec<JoinHandle<()>>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessEnd {
    /// The exit status. `None` if the operating system does not report it.
    pub(crate) status: Option<ExitStatus>,
    /// Whether the harness killed it.
    pub(crate) killed: bool,
}

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(crate) fn start(mut command: Command, scope: KillScope) -> io::Result<Process> {
        if scope == KillScope::Group {
            command.process_group(0);
        }
        let child = command.spawn()?;
        Ok(Process { child, scope, status: None, readers: Vec::new() })
    }

    /// Returns the process id of the child.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes the child's standard input, if it is a pipe.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Passes the child's standard output to `sink`, part by part, on a thread.
    pub(crate) fn read_stdout(&mut self, sink: impl FnMut(&[u8]) + Send + 'static) {
        let stdout = self.child.stdout.take();
        self.readers.extend(stdout.map(|stdout| read(stdout, sink)));
    }

    /// Passes the child's standard error to `sink`, part by part, on a thread.
    pub(crate) fn read_stderr(&mut self, sink: impl FnMut(&[u8]) + Send + 'static) {
        let stderr = self.child.stderr.take();
        self.readers.extend(stderr.map(|stderr| read(stderr, sink)));
    }

    /// Returns whether the child has ended, without waiting.
    pub(crate) fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            match self.child.try_wait() {
                Ok(status) => self.status = status,
                // a child without a status does not exist any more
                Err(_) => return true,
            }
        }
        self.status.is_some()
    }

    /// Waits until the child ends, while `keep_waiting` allows it.
    ///
    /// # Errors
    /// The error of `keep_waiting`.
    pub(crate) fn wait<E>(
        &mut self,
        mut keep_waiting: impl FnMut() -> Result<(), E>,
    ) -> Result<Option<ExitStatus>, E> {
        while !self.has_ended() {
            keep_waiting()?;
            std::thread::sleep(INTERVAL);
        }
        Ok(self.status)
    }

    /// Waits up to `grace` for the end of the child, then kills the processes in its scope, and
    /// reaps the child.
    pub(crate) fn end(&mut self, grace: Duration) -> ProcessEnd {
        let until = Instant::now() + grace;
        let in_time = self.wait(|| if Instant::now() < until { Ok(()) } else { Err(()) });
        if let Ok(status) = in_time {
            return ProcessEnd { status, killed: false };
        }
        self.kill();
        ProcessEnd { status: self.child.wait().ok(), killed: true }
    }

    /// Waits up to `grace` for the threads that read the output: a process that the child left
    /// behind may keep the pipes open.
    pub(crate) fn join_readers(&mut self, grace: Duration) {
        let until = Instant::now() + grace;
        for reader in self.readers.drain(..) {
            while !reader.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Asks the processes in the child's scope to end.
    fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
        // fails only if the child has ended already
        let _ = self.child.kill();
    }

    /// Sends a signal, which fails only for processes that have ended already.
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        match self.scope {
            KillScope::Group => {
                let _ = pid.map(|group| rustix::process::kill_process_group(group, signal));
            }
            KillScope::Descendants => {
                for pid in descendants(self.child.id()).into_iter().chain(pid) {
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        /// How long the processes of a group may take to end after a request.
        const GRACE: Duration = Duration::from_secs(1);
        if self.has_ended() {
            return;
        }
        if self.scope == KillScope::Group {
            self.terminate();
            let asked = Instant::now();
            while !self.has_ended() && asked.elapsed() < GRACE {
                std::thread::sleep(INTERVAL);
            }
        }
        self.kill();
        let _ = self.child.wait();
    }
}

/// Why a program returned no output.
#[derive(Debug)]
pub(crate) enum RunError {
    /// The program cannot be started.
    NotStarted(io::Error),
    /// The program did not end in time.
    TimedOut,
    /// A signal asked the run to end.
    Interrupted(i32),
}

/// The complete output of a program.
#[derive(Debug)]
pub(crate) struct ProgramOutput {
    /// The exit status. `None` if the operating system does not report it.
    pub(crate) status: Option<ExitStatus>,
    /// The text on standard output.
    pub(crate) stdout: String,
    /// The text on standard error.
    pub(crate) stderr: String,
}

/// Runs a program that ends soon, and returns its output: at most `max_bytes` of each stream.
///
/// # Errors
/// The program cannot be started, does not end within `limit`, or a signal arrived.
pub(crate) fn run(
    mut command: Command,
    limit: Duration,
    max_bytes: usize,
    interrupt: &Interrupt,
) -> Result<ProgramOutput, RunError> {
    /// How long the output may take to arrive after the end of the program.
    const GRACE: Duration = Duration::from_secs(1);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process =
        Process::start(command, KillScope::Descendants).map_err(RunError::NotStarted)?;
    let (stdout, stderr) = (OutputBuffer::default(), OutputBuffer::default());
    process.read_stdout(stdout.head(max_bytes));
    process.read_stderr(stderr.head(max_bytes));
    let until = Instant::now() + limit;
    let status = process.wait(|| match interrupt.signal() {
        Some(signal) => Err(RunError::Interrupted(signal)),
        None if Instant::now() > until => Err(RunError::TimedOut),
        None => Ok(()),
    })?;
    process.join_readers(GRACE);
    Ok(ProgramOutput { status, stdout: stdout.text(), stderr: stderr.text() })
}

/// A buffer for output, which a reader thread fills and another thread reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutputBuffer(Arc<Mutex<Vec<u8>>>);

impl OutputBuffer {
    /// Returns a sink that keeps the first `max` bytes.
    pub(crate) fn head(&self, max: usize) -> impl FnMut(&[u8]) + Send + 'static {
        let buffer = self.clone();
        move |bytes| {
            let mut kept = buffer.lock();
            let room = max.saturating_sub(kept.len()).min(bytes.len());
            kept.extend(&bytes[..room]);
        }
    }

    /// Returns a sink that keeps the last `max` bytes.
    pub(crate) fn tail(&self, max: usize) -> impl FnMut(&[u8]) + Send + 'static {
        let buffer = self.clone();
        move |bytes| {
            let mut kept = buffer.lock();
            kept.extend(bytes);
            let excess = kept.len().saturating_sub(max);
            kept.drain(..excess);
        }
    }

    /// Returns the bytes collected so far, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock()).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a sink that passes complete lines to `take_line`, without trailing whitespace.
pub(crate) fn lines(mut take_line: impl FnMut(&str) + Send + 'static) -> impl FnMut(&[u8]) + Send {
    let mut incomplete: Vec<u8> = Vec::new();
    move |bytes| {
        incomplete.extend(bytes);
        while let Some(end) = incomplete.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = incomplete.drain(..=end).collect();
            take_line(String::from_utf8_lossy(&line).trim_end());
        }
    }
}

fn read(
    mut source: impl Read + Send + 'static,
    mut sink: impl FnMut(&[u8]) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // a read error ends the output: later bytes count as not printed
        while let Ok(read @ 1..) = source.read(&mut buffer) {
            sink(&buffer[..read]);
        }
    })
}

/// Returns the children of process `pid` and their descendants. They would outlive a wrapper script
/// that is killed alone.
fn descendants(pid: u32) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut unvisited = vec![pid];
    while let Some(pid) = unvisited.pop() {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            if let Ok(raw) = child.parse::<i32>()
                && let Some(pid) = Pid::from_raw(raw)
                && !found.contains(&pid)
            {
                found.push(pid);
                unvisited.push(raw.unsigned_abs());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_output_has_both_streams_up_to_a_maximum_length() {
        let command = shell("echo one; echo two >&2; exit 3");
        let interrupt = Interrupt::default();
        let output = run(command, Duration::from_secs(20), 3, &interrupt).expect("the output");
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("one", "two"));
        assert_eq!(output.status.and_then(|status| status.code()), Some(3));
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_its_children() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = folder.path().join("pid");
        let script = format!("sleep 60 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
        let interrupt = Interrupt::default();
        let began = Instant::now();
        let output = run(shell(&script), Duration::from_millis(500), 9, &interrupt);
        assert!(matches!(output, Err(RunError::TimedOut)), "{output:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        let pid = std::fs::read_to_string(file).expect("the process id of the child");
        let until = Instant::now() + Duration::from_secs(10);
        let stat = format!("/proc/{}/stat", pid.trim());
        // a zombie process remains until its parent reaps it
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z")) {
            assert!(Instant::now() < until, "the child has not ended");
            std::thread::sleep(INTERVAL);
        }
    }

    #[test]
    fn a_signal_ends_the_wait() {
        let interrupt = Interrupt::after(2);
        let output = run(shell("sleep 60"), Duration::from_secs(60), 9, &interrupt);
        assert!(matches!(output, Err(RunError::Interrupted(2))), "{output:?}");
    }

    #[test]
    fn sinks_pass_complete_lines_and_keep_the_tail() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&seen);
        let mut sink = lines(move |line| collected.lock().expect("lines").push(line.to_owned()));
        sink(b"first\nsec");
        sink(b"ond\nopen");
        assert_eq!(*seen.lock().expect("lines"), ["first", "second"]);
        let buffer = OutputBuffer::default();
        let mut tail = buffer.tail(4);
        tail(b"abc");
        tail(b"defg");
        assert_eq!(buffer.text(), "defg");
    }
}

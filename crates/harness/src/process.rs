//! Child processes: started with readers on their output, ended in two steps, always reaped.
//!
//! Everything that the harness starts goes through here: workers, the question what a worker is, cargo,
//! nvcc.

use crate::signal::Interrupt;
use rustix::process::{Pid, Signal};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time between two looks at a child.
const INTERVAL: Duration = Duration::from_millis(5);

/// Which processes are ended with a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The child and its descendants, which stay in the process group of the harness, so that a
    /// signal from a terminal or a test runner reaches them too.
    Descendants,
    /// The child's process group, which is its own.
    Group,
}

/// A running child process. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    scope: Scope,
    status: Option<ExitStatus>,
    readers: Vec<JoinHandle<()>>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its exit status; `None` if the system does not tell.
    pub(crate) status: Option<ExitStatus>,
    /// Whether it did not end by itself.
    pub(crate) killed: bool,
}

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(crate) fn start(mut command: Command, scope: Scope) -> io::Result<Process> {
        if scope == Scope::Group {
            command.process_group(0);
        }
        let child = command.spawn()?;
        Ok(Process { child, scope, status: None, readers: Vec::new() })
    }

    /// Returns the process id.
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

    /// Returns whether the child has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            match self.child.try_wait() {
                Ok(status) => self.status = status,
                // a child that cannot be asked for is gone
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

    /// Waits for the child's end until `grace` is over, then kills what is in its scope, and reaps it.
    pub(crate) fn end(&mut self, grace: Duration) -> Ended {
        let until = Instant::now() + grace;
        let in_time = self.wait(|| if Instant::now() < until { Ok(()) } else { Err(()) });
        if let Ok(status) = in_time {
            return Ended { status, killed: false };
        }
        self.kill();
        Ended { status: self.child.wait().ok(), killed: true }
    }

    /// Waits for the readers of the child's output until `grace` is over: a process that the child left
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
        // fails only where the child is gone already
        let _ = self.child.kill();
    }

    /// Sends a signal, which fails only for processes that are gone already.
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        match self.scope {
            Scope::Group => {
                let _ = pid.map(|group| rustix::process::kill_process_group(group, signal));
            }
            Scope::Descendants => {
                for pid in descendants(self.child.id()).into_iter().chain(pid) {
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        /// The time for the processes of a group to end after they were asked to.
        const GRACE: Duration = Duration::from_secs(1);
        if self.has_ended() {
            return;
        }
        if self.scope == Scope::Group {
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

/// Why a program gave no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// It cannot be started.
    NotStarted(io::Error),
    /// It did not end in time.
    TooLate,
    /// A signal asked the run to end.
    Interrupted(i32),
}

/// What a program printed until it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its exit status; `None` if the system does not tell.
    pub(crate) status: Option<ExitStatus>,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

/// Runs a program that ends soon, and returns what it printed: at most `max_bytes` of either stream.
///
/// # Errors
/// It cannot be started, does not end within `limit`, or a signal came.
pub(crate) fn ask(
    mut command: Command,
    limit: Duration,
    max_bytes: usize,
    interrupt: &Interrupt,
) -> Result<Answer, NoAnswer> {
    /// The time for what was printed to arrive after the program's end.
    const GRACE: Duration = Duration::from_secs(1);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::start(command, Scope::Descendants).map_err(NoAnswer::NotStarted)?;
    let (stdout, stderr) = (Shared::default(), Shared::default());
    process.read_stdout(stdout.head(max_bytes));
    process.read_stderr(stderr.head(max_bytes));
    let until = Instant::now() + limit;
    let status = process.wait(|| match interrupt.signal() {
        Some(signal) => Err(NoAnswer::Interrupted(signal)),
        None if Instant::now() > until => Err(NoAnswer::TooLate),
        None => Ok(()),
    })?;
    process.join_readers(GRACE);
    Ok(Answer { status, stdout: stdout.text(), stderr: stderr.text() })
}

/// Bytes that a reader collects for another thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    /// Returns a sink that keeps the first `max` bytes.
    pub(crate) fn head(&self, max: usize) -> impl FnMut(&[u8]) + Send + 'static {
        let shared = self.clone();
        move |bytes| {
            let mut kept = shared.lock();
            let room = max.saturating_sub(kept.len()).min(bytes.len());
            kept.extend(&bytes[..room]);
        }
    }

    /// Returns a sink that keeps the last `max` bytes.
    pub(crate) fn tail(&self, max: usize) -> impl FnMut(&[u8]) + Send + 'static {
        let shared = self.clone();
        move |bytes| {
            let mut kept = shared.lock();
            kept.extend(bytes);
            let excess = kept.len().saturating_sub(max);
            kept.drain(..excess);
        }
    }

    /// Returns what was collected so far, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock()).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a sink that passes complete lines to `take`, without their ends.
pub(crate) fn lines(mut take: impl FnMut(&str) + Send + 'static) -> impl FnMut(&[u8]) + Send {
    let mut open: Vec<u8> = Vec::new();
    move |bytes| {
        open.extend(bytes);
        while let Some(end) = open.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = open.drain(..=end).collect();
            take(String::from_utf8_lossy(&line).trim_end());
        }
    }
}

fn read(
    mut source: impl Read + Send + 'static,
    mut sink: impl FnMut(&[u8]) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // what cannot be read was not printed
        while let Ok(read @ 1..) = source.read(&mut buffer) {
            sink(&buffer[..read]);
        }
    })
}

/// Returns the children of process `pid` and theirs: a script in front of a program leaves them behind.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn an_answer_has_both_streams_and_is_bounded() {
        let command = shell("echo one; echo two >&2; exit 3");
        let interrupt = Interrupt::default();
        let answer = ask(command, Duration::from_secs(20), 3, &interrupt).expect("an answer");
        assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("one", "two"));
        assert_eq!(answer.status.and_then(|status| status.code()), Some(3));
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_its_children() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = folder.path().join("pid");
        let script = format!("sleep 60 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
        let interrupt = Interrupt::default();
        let began = Instant::now();
        let answer = ask(shell(&script), Duration::from_millis(500), 9, &interrupt);
        assert!(matches!(answer, Err(NoAnswer::TooLate)), "{answer:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        let pid = std::fs::read_to_string(file).expect("the child's id");
        let until = Instant::now() + Duration::from_secs(10);
        let stat = format!("/proc/{}/stat", pid.trim());
        // a zombie waits until its parent reaps it
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z")) {
            assert!(Instant::now() < until, "the child is gone");
            std::thread::sleep(INTERVAL);
        }
    }

    #[test]
    fn a_signal_ends_the_wait() {
        let interrupt = Interrupt::after(2);
        let answer = ask(shell("sleep 60"), Duration::from_secs(60), 9, &interrupt);
        assert!(matches!(answer, Err(NoAnswer::Interrupted(2))), "{answer:?}");
    }

    #[test]
    fn lines_are_whole_and_the_tail_is_the_end() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        let mut sink = lines(move |line| shared.lock().expect("lines").push(line.to_owned()));
        sink(b"first\nsec");
        sink(b"ond\nopen");
        assert_eq!(*seen.lock().expect("lines"), ["first", "second"]);
        let shared = Shared::default();
        let mut tail = shared.tail(4);
        tail(b"abc");
        tail(b"defg");
        assert_eq!(shared.text(), "defg");
    }
}

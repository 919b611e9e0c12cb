//! The process of a worker: from its start to its exit code.

use super::channel::Channel;
use super::engine_info::{engine, print_engine};
use super::exit_codes::{ABANDONED, MISUSED};
use super::request::read_request;
use super::work::work;
use modelgate_protocol::{
    EVENTS_FD, Event, Failure, FailureKind, PROTOCOL_VERSION, Stage, TELL_ENGINE,
};
use std::any::Any;
use std::cell::Cell;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Answers the one request on standard input, and ends when standard input is closed. With the
/// argument `--engine` it describes itself, one line of JSON, and reads nothing.
///
/// Exit codes: 0 after all is done and sent, 1 after a failure that was sent, 2 if there is no harness,
/// 3 if standard input closed before the work was done.
pub fn run_worker() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(TELL_ENGINE) {
        return print_engine();
    }
    limit_threads();
    ignore_signals();
    let number = std::env::var(EVENTS_FD).unwrap_or_default();
    let Some(channel) = Channel::open(&number) else {
        eprintln!(
            "modelgate-worker is started by modelgate: {EVENTS_FD} is \"{number}\", expected the \
             number of an open file descriptor to write events to, and the request on standard \
             input"
        );
        return ExitCode::from(MISUSED);
    };
    channel.send(&Event::Hello { protocol: PROTOCOL_VERSION, engine: engine() });
    let done = Arc::new(AtomicBool::new(false));
    let stage = Cell::new(Stage::Start);
    let outcome = read_request().and_then(|request| {
        let watch = watch_for_the_end(Arc::clone(&done));
        catch_unwind(AssertUnwindSafe(|| work(&request, &channel, &stage)))
            .unwrap_or_else(|panic| Err(panicked(stage.get(), panic.as_ref())))
            .map(|()| watch)
    });
    match outcome {
        Ok(watch) => {
            done.store(true, Ordering::SeqCst);
            channel.send(&Event::Done);
            let _ = watch.join();
            ExitCode::SUCCESS
        }
        Err(failure) => {
            channel.send(&Event::Failure(failure));
            ExitCode::FAILURE
        }
    }
}

/// Limits candle's own pool, which otherwise takes the machine's physical cores and spins on them,
/// even in a container that may use a few.
fn limit_threads() {
    const THREADS: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(THREADS).is_none()
        && let Ok(cores) = std::thread::available_parallelism()
    {
        // SAFETY: the process has one thread yet, so nothing reads the environment meanwhile.
        unsafe { std::env::set_var(THREADS, cores.to_string()) };
    }
}

/// Ignores the signals that a terminal sends to its whole process group: the harness handles them, and
/// then closes this process's standard input.
fn ignore_signals() {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // sets a flag that is never read; if this fails, signals keep their usual effect
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
}

/// Ends the process as soon as standard input closes, even in the middle of a long computation; once
/// all is done the main thread ends it instead.
fn watch_for_the_end(done: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let mut input = std::io::stdin().lock();
        while input.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
        if !done.load(Ordering::SeqCst) {
            signal_hook::low_level::exit(ABANDONED);
        }
    })
}

fn panicked(stage: Stage, panic: &(dyn Any + Send)) -> Failure {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    Failure::new(
        stage,
        FailureKind::Internal,
        format!("the engine panicked: {text}"),
        "report this defect of modelgate with the standard error of the worker",
    )
}

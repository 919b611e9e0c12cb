//! The process of a worker, from its start to its exit code.

use super::allocator::use_one_arena;
use super::channel::Channel;
use super::engine_info::{engine, print_engine};
use super::exit_codes::{ABANDONED, MISUSED};
use super::request::read_request;
use super::work::work;
use modelgate_protocol::{
    ENGINE_ARGUMENT, EVENTS_FD, Event, Failure, FailureKind, PROTOCOL_VERSION, Stage,
};
use std::any::Any;
use std::cell::Cell;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Executes the request on standard input, and waits until standard input is closed. With the
/// argument `--engine`, prints the description of the engine as one line of JSON instead, and reads
/// no request.
///
/// The exit code is 0 after all results were sent, 1 after a failure was sent, 2 if the process was
/// not started by a harness, 3 if standard input closed before the work was done, and 4 if a result
/// could not be sent.
pub fn run_worker() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(ENGINE_ARGUMENT) {
        return print_engine();
    }
    use_one_arena();
    limit_threads();
    ignore_signals();
    let number = std::env::var(EVENTS_FD).unwrap_or_default();
    let Some(channel) = Channel::open(&number) else {
        eprintln!(
            "modelgate-worker must be started by modelgate: {EVENTS_FD}: expected the number of an \
             open file descriptor for events, found \"{number}\""
        );
        return ExitCode::from(MISUSED);
    };
    channel.send(&Event::Hello { protocol: PROTOCOL_VERSION, engine: engine() });
    let done = Arc::new(AtomicBool::new(false));
    let stage = Cell::new(Stage::Start);
    let outcome = read_request().and_then(|request| {
        let watch = end_with_standard_input(Arc::clone(&done));
        catch_unwind(AssertUnwindSafe(|| work(&request, &channel, &stage)))
            .unwrap_or_else(|panic| Err(panic_failure(stage.get(), panic.as_ref())))
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

/// Limits the thread pool of candle to the available cores. Without this limit, the pool uses all
/// physical cores of the host with spinning threads, even in a container with few cores.
fn limit_threads() {
    const THREADS: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(THREADS).is_none()
        && let Ok(cores) = std::thread::available_parallelism()
    {
        // SAFETY: the process has only one thread here, so no other thread reads the environment.
        unsafe { std::env::set_var(THREADS, cores.to_string()) };
    }
}

/// Ignores the signals that a terminal sends to its entire process group. The harness handles them,
/// and then closes the standard input of this process.
fn ignore_signals() {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // sets a flag that is never read; if the registration fails, the signal ends the process
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
}

/// Starts a thread that ends the process as soon as standard input closes, even during a long
/// computation. If `done` is set, only the thread ends, and the main thread ends the process.
fn end_with_standard_input(done: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let mut input = std::io::stdin().lock();
        while input.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
        if !done.load(Ordering::SeqCst) {
            signal_hook::low_level::exit(ABANDONED);
        }
    })
}

/// Returns the failure for a panic of the engine.
fn panic_failure(stage: Stage, panic: &(dyn Any + Send)) -> Failure {
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

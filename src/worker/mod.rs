//! The parent's side of a worker: one process per model, watched from spawn to reaping.
//!
//! Whatever the process does (crash, hang, fill the memory, talk nonsense) becomes part of one
//! model's measurement. Knows the protocol; knows nothing of engines.

mod built;
mod channel;
mod control_group;
mod ending;
mod engine;
mod fold;
mod locate;
mod probe;
mod process;
mod timeline;

pub use built::BuiltWorker;
pub(crate) use built::appended;
pub use engine::engine_of;
pub use locate::locate;

use crate::signal::Interrupt;
use channel::Line;
use control_group::OutOfMemoryKills;
use ending::Ending;
use fold::Fold;
use modelgate_protocol::{Event, Failure, FailureKind, Measurement, Request, Stage};
use process::Worker;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// How often deadlines, signals and the child's state are looked at.
const TICK: Duration = Duration::from_millis(20);

/// What ends a worker before it is done.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From spawn.
    pub deadline: Duration,
    /// Without progress.
    pub stall: Duration,
    /// A signal to the harness.
    pub interrupt: Interrupt,
}

/// Is told each event; an error ends the worker.
pub type Watch<'a> = dyn FnMut(&Event) -> Result<(), Failure> + 'a;

/// Runs the worker `built` on `request` and adds what is seen of it to `measurement`. `watch` is
/// told each event as it arrives, and may refuse to go on.
pub fn run(
    built: &BuiltWorker,
    request: &Request,
    limits: &Limits,
    measurement: &mut Measurement,
    watch: &mut Watch<'_>,
) {
    let kills = OutOfMemoryKills::now();
    let mut worker = match Worker::spawn(built, request) {
        Ok(worker) => worker,
        Err(error) => {
            ending::no_worker(measurement, &built.program, &error);
            return;
        }
    };
    let probe = probe::Probe::start(worker.pid(), worker.spawned());
    let mut fold = Fold::new(measurement, worker.spawned());
    let ending = listen(&mut worker, limits, &mut fold, &probe, watch);
    let said_done = Instant::now();
    let exit = worker.end(ending.is_forced());
    let reaped = Instant::now();
    fold.finish(said_done, reaped);
    probe.stop(measurement);
    measurement.worker_stderr = worker.output_tail();
    measurement.worker_exit = Some(exit);
    ending::conclude(measurement, ending, &kills);
}

/// Takes events in until the worker is done, says that it failed, or has to be ended.
fn listen(
    worker: &mut Worker,
    limits: &Limits,
    fold: &mut Fold<'_>,
    probe: &probe::Probe,
    watch: &mut Watch<'_>,
) -> Ending {
    let mut last_progress = worker.spawned();
    let mut ended = false;
    loop {
        if let Some(signal) = limits.interrupt.signal() {
            return Ending::Interrupted(signal, fold.stage());
        }
        if worker.spawned().elapsed() > limits.deadline {
            return Ending::Deadline(limits.deadline, fold.stage());
        }
        match worker.lines().recv_timeout(TICK) {
            Ok(Line::Event(at, event)) => {
                if let Event::Loaded = *event {
                    probe.mark_loaded();
                }
                if let Err(refusal) = watch(&event) {
                    return Ending::Said(refusal);
                }
                match fold.take(*event, at) {
                    fold::Step::Advanced => last_progress = at,
                    fold::Step::SameProgress => {}
                    fold::Step::Done => return Ending::Done,
                    fold::Step::Failed(failure) => return Ending::Said(failure),
                    fold::Step::Refused(message) => {
                        return Ending::Said(protocol_failure(fold.stage(), message));
                    }
                }
            }
            Ok(Line::Malformed(message)) => {
                return Ending::Said(protocol_failure(fold.stage(), message));
            }
            Err(RecvTimeoutError::Disconnected) => return silent(limits, fold.stage()),
            Err(RecvTimeoutError::Timeout) => {
                // a grandchild may hold the channel open after the worker itself is gone; one
                // quiet tick after its end all that it wrote has arrived
                if ended {
                    return silent(limits, fold.stage());
                }
                ended = worker.has_ended();
            }
        }
        if last_progress.elapsed() > limits.stall {
            return Ending::Stalled(limits.stall, fold.stage());
        }
    }
}

/// A worker that does not ignore Ctrl-C dies of it before the harness has taken note.
fn silent(limits: &Limits, stage: Stage) -> Ending {
    std::thread::sleep(TICK);
    match limits.interrupt.signal() {
        Some(signal) => Ending::Interrupted(signal, stage),
        None => Ending::Silent(stage),
    }
}

fn protocol_failure(stage: Stage, message: String) -> Failure {
    Failure::new(
        stage,
        FailureKind::Protocol,
        message,
        "the worker must speak this version's protocol: see its schema; a worker built from \
         another version has to be built again",
    )
}

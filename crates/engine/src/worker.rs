//! The conversation of a worker with its harness: one request in, events out, and an end as soon
//! as nobody listens. Knows no file and no tensor.

use crate::events::{ABANDONED, Channel};
use crate::file_ceilings::WeightFiles;
use crate::generate::answer;
use crate::gpu;
use crate::model::Model;
use crate::perplexity::perplexity;
use crate::place::Place;
use modelgate_protocol::{
    Activity, Ceiling, DType, EVENTS_FD, Engine, Event, Evidence, Failure, FailureKind, Finite,
    PROTOCOL_VERSION, PhaseName, Request, Scheme, Stage, TELL_ENGINE, WeightFormat,
};
use std::any::Any;
use std::cell::Cell;
use std::io::{BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Version of candle-core that this crate is built with; a test compares it with the lock file.
const CANDLE: &str = "0.11.1";

/// Exit code where the process was not started as a worker is.
const MISUSED: u8 = 2;

/// The longest request that is read.
const LONGEST_REQUEST: u64 = 64 << 20;

/// Variables at which candle switches quantization off without a word.
const TRAPS: [&str; 2] = ["CANDLE_DEQUANTIZE_ALL", "CANDLE_DEQUANTIZE_ALL_F16"];

/// Answers the one request on standard input, and ends when standard input is closed. With the
/// argument `--engine` it tells what it is, one line of JSON, and asks for nothing.
///
/// Exit codes: 0 when all was done and said, 1 after a failure that was said, 2 where nobody is
/// there to be told, 3 where standard input closed before the work was done.
pub fn run_worker() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(TELL_ENGINE) {
        return tell_engine();
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

fn tell_engine() -> ExitCode {
    match serde_json::to_string(&engine()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// Candle's own pool takes the machine's physical cores and spins on them, where a container may
/// use a few.
fn limit_threads() {
    const THREADS: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(THREADS).is_none()
        && let Ok(cores) = std::thread::available_parallelism()
    {
        // SAFETY: the process has one thread yet, so nobody reads the environment meanwhile.
        unsafe { std::env::set_var(THREADS, cores.to_string()) };
    }
}

/// What a terminal sends to its whole process group is the harness's to handle: it then closes
/// our standard input.
fn ignore_signals() {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A flag that nobody reads. Where this fails, signals keep their usual effect.
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
}

fn engine() -> Engine {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    Engine {
        name: "candle".into(),
        version: format!("{CANDLE}, modelgate-engine {}", env!("CARGO_PKG_VERSION")),
        build: format!("{profile}, {}", if cfg!(feature = "cuda") { "cuda" } else { "cpu" }),
        compute_capability: gpu::compute_capability(),
        cuda: gpu::cuda_version(),
    }
}

fn read_request() -> Result<Request, Failure> {
    #[derive(serde::Deserialize)]
    struct Version {
        protocol: u32,
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().take(LONGEST_REQUEST).read_line(&mut line);
    let malformed = |what: &dyn std::fmt::Display| {
        start_failure(
            FailureKind::Protocol,
            format!("the request is not one line of JSON as the protocol has it: {what}"),
            "harness and worker are of different versions: build both from the same sources",
        )
    };
    read.map_err(|error| malformed(&error))?;
    // The version first: a request of another one may have any form.
    let version: Version = serde_json::from_str(&line).map_err(|error| malformed(&error))?;
    if version.protocol != PROTOCOL_VERSION {
        return Err(start_failure(
            FailureKind::Protocol,
            format!(
                "the request is of protocol version {}; this worker speaks {PROTOCOL_VERSION}",
                version.protocol
            ),
            "build harness and worker from the same sources",
        ));
    }
    serde_json::from_str(&line).map_err(|error| malformed(&error))
}

/// Ends the process as soon as standard input closes, even in the middle of a long computation,
/// unless all is done: then the main thread ends it in good order.
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

/// All that the request asks for; `stage` says how far it came.
fn work(request: &Request, channel: &Channel, stage: &Cell<Stage>) -> Result<(), Failure> {
    let activities = Mutex::new(Vec::new());
    let events = |event: Event| {
        if let Event::Activity(activity) = &event {
            activities.lock().unwrap_or_else(PoisonError::into_inner).push(activity.clone());
        }
        channel.send(&event);
    };
    let phase = |name| channel.send(&Event::Phase { name });
    phase(PhaseName::Device);
    refuse_traps()?;
    let place = Place::open(&request.devices, request.device_limit)?;
    if let Some(gpu) = place.gpu() {
        phase(PhaseName::Kernels);
        gpu.load_kernels()?;
        gpu.prove(&types(request))?;
        events(Event::Device(gpu.seen()));
    }
    let tell_memory = || {
        if let Some(gpu) = place.gpu() {
            events(Event::DeviceMemory(gpu.memory()));
        }
    };
    stage.set(Stage::Load);
    phase(PhaseName::Load);
    let files = WeightFiles::of(&request.files);
    let mut model = Model::load_to(&place, request, &events)?;
    stage.set(Stage::Generate);
    phase(PhaseName::Warmup);
    model.warm_up(&events)?;
    tell_memory();
    phase(PhaseName::Generate);
    for generation in &request.generations {
        let answer = answer(&mut model, generation, &events)?;
        events(Event::Generation(answer));
    }
    if let Some(text) = &request.perplexity_text {
        phase(PhaseName::Perplexity);
        events(Event::Perplexity(perplexity(&mut model, text, &events)?));
    }
    model.tell_activities(&events);
    if place.gpu().is_some() && request.evidence == Evidence::Synthetic {
        phase(PhaseName::Agreement);
        if let Some(agreement) = model.agreement()? {
            events(Event::Agreement(agreement));
        }
    }
    tell_memory();
    phase(PhaseName::Ceilings);
    drop(model);
    let mut ceilings = files.ceilings();
    if let Some(gpu) = place.gpu() {
        // a device that has become full meanwhile has no ceiling, and the model was measured
        ceilings.extend(gpu.ceilings().unwrap_or_default());
    }
    let activities = activities.into_inner().unwrap_or_else(PoisonError::into_inner);
    for activity in activities {
        let ceiling_bytes_per_s = ceiling(&activity.name, &files, &ceilings);
        channel.send(&Event::Activity(Activity { ceiling_bytes_per_s, ..activity }));
    }
    for ceiling in ceilings {
        channel.send(&Event::Ceiling(ceiling));
    }
    Ok(())
}

/// The block types that a model may have: those of its scheme, and of a GGUF file any.
fn types(request: &Request) -> Vec<DType> {
    match request.files.format {
        WeightFormat::Gguf => Scheme::all().filter_map(Scheme::dtype).collect(),
        _ => request.quantization.dtype().into_iter().collect(),
    }
}

/// What an activity could reach at most.
fn ceiling(activity: &str, files: &WeightFiles, ceilings: &[Ceiling]) -> Option<Finite> {
    let name = match activity {
        "read" => return files.read_ceiling(ceilings).and_then(Finite::new),
        "copy" => "pinned_copy",
        "prefill" | "decode" => "device_memory",
        _ => return None,
    };
    ceilings.iter().find(|ceiling| ceiling.name == name).map(|ceiling| ceiling.bytes_per_s)
}

fn refuse_traps() -> Result<(), Failure> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|v| !v.is_empty() && v != "0");
    match TRAPS.iter().find(|name| is_set(name)) {
        None => Ok(()),
        Some(name) => Err(start_failure(
            FailureKind::Unsupported,
            format!("{name} is set, which switches quantization off"),
            "unset it",
        )),
    }
}

fn start_failure(kind: FailureKind, message: impl Into<String>, hint: &str) -> Failure {
    Failure::new(Stage::Start, kind, message, hint)
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
        "this is a defect of modelgate; please report it with the worker's standard error",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_candle_is_the_one_in_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock");
        let entry = format!("name = \"candle-core\"\nversion = \"{CANDLE}\"\n");
        assert!(lock.contains(&entry), "CANDLE is {CANDLE}");
    }
}

//! Models on GPUs, where there is none: the harness is the real one, the inventory and the readings
//! of the driver are the test's, and the worker is a script that keeps a book of what it takes, from
//! which the readings are read.

use crate::support::settings;
use modelgate_harness::check::{Check, Status, Verdict};
use modelgate_harness::host::Host;
use modelgate_harness::manifest::{DeviceChoice, Manifest};
use modelgate_harness::measurement::{DeviceMemory, Measurement, Outcome, PeakSource};
use modelgate_harness::nvidia::{Gpu, MemoryReading, ProcessUse, Readings};
use modelgate_harness::plan::ModelJob;
use modelgate_harness::run::{RunContext, measure};
use modelgate_harness::settings::Settings;
use modelgate_harness::signal::Interrupt;
use modelgate_harness::workers::Workers;
use modelgate_protocol::{Device, FailureKind, Stage};
use modelgate_testkit::workers::{Script, fixture, made_up_with};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const MB: u64 = 1_000_000;
const GIB: u64 = 1 << 30;
/// In use before anybody comes.
const BEFORE: u64 = 100 * MB;
/// What the worker's context takes.
const CONTEXT: u64 = 500 * MB;
/// What the worker reserves for the model.
const RESERVED: u64 = 2 * GIB;
/// The process that the driver shows beside the worker.
const OTHER: u32 = 1_000_000_007;

/// The worker's book, in front of `made_up.py`.
const PRELUDE: &str = r#"
import time
BEFORE, CONTEXT, RESERVED, GIB, OTHER = @CONSTANTS@
PAUSE = 0.2
ENGINE = {"name": "scripted", "version": "1", "build": "python", "compute_capability": "9.0",
          "cuda": "13.0"}

def book(own, *others, unowned=0):
    """Writes down what is in use: by this process, by others, and by no process."""
    rows = ([[os.getpid(), own]] if own else []) + [list(other) for other in others]
    used = BEFORE + unowned + sum(row[1] for row in rows)
    with open("@BOOK@.new", "w", encoding="utf-8") as file:
        json.dump({"used": used, "processes": rows}, file)
    os.replace("@BOOK@.new", "@BOOK@")
    time.sleep(PAUSE)  # so that it is seen

def memory(reserved, reserved_peak, outside, outside_peak):
    tell("device_memory", device="cuda:0", uuid=UUID, reserved=reserved,
         reserved_peak=reserved_peak, outside=outside, outside_peak=outside_peak,
         longest_gap_s=0.003)

if sys.argv[1:] == ["--engine"]:
    print(json.dumps(ENGINE))
    sys.exit(0)
UUID = os.environ["CUDA_VISIBLE_DEVICES"]
print("visible:", UUID, os.environ["CUDA_DEVICE_ORDER"])
"#;

/// What the worker does before its first tensor: it opens the device, then loads.
const OPEN: &str = r#"book(CONTEXT)
tell("device", device="cuda:0", uuid=UUID, name="GPU", compute_capability="9.0",
     total=80 * GIB, baseline=BEFORE + CONTEXT, kernels_cached=None)
memory(0, 0, BEFORE + CONTEXT, BEFORE + CONTEXT)
book(CONTEXT + RESERVED)
"#;

/// What it tells when all is resident, and once more at its end.
const TOLD: &str = "memory(RESERVED, RESERVED, BEFORE + CONTEXT, BEFORE + CONTEXT)\n";

/// What it does last: it measures what the hardware can do at most, for which it takes more than
/// for the model.
const CEILINGS: &str = r#"tell("phase", name="ceilings")
ballast = b"x" * (300 * 10 ** 6)
book(CONTEXT + 2 * RESERVED)
memory(0, 2 * RESERVED, BEFORE + 2 * CONTEXT, BEFORE + 2 * CONTEXT)
tell("ceiling", name="device_memory", device="cuda:0", bytes_per_s=1e12)
"#;

/// The GPU as the book shows it.
struct Book(PathBuf);

impl Book {
    fn read(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(&self.0).expect("the book");
        serde_json::from_str(&text).expect("JSON")
    }
}

impl Readings for Book {
    fn memory(&self, _: &str) -> Option<MemoryReading> {
        Some(MemoryReading { used: self.read()["used"].as_u64()?, total: 80 * GIB })
    }

    fn processes(&self, _: &str) -> Option<Vec<ProcessUse>> {
        let book = self.read();
        let process = |row: &serde_json::Value| {
            Some(ProcessUse { pid: u32::try_from(row[0].as_u64()?).ok()?, used: row[1].as_u64() })
        };
        book["processes"].as_array()?.iter().map(process).collect()
    }

    fn name(&self, pid: u32) -> Option<String> {
        (pid == OTHER).then(|| "intruder".to_owned())
    }
}

/// A host with one GPU, a worker, and a model that is to live there.
struct Scene {
    folder: TempDir,
    _worker: Script,
    host: Host,
    settings: Settings,
    manifest: Manifest,
    interrupt: Interrupt,
}

impl Scene {
    /// The worker does `open` before it loads, `told` when it has loaded, and `end` when it was
    /// asked to end. `more` is added to the manifest's entry.
    fn new(open: &str, told: &str, end: &str, more: &str) -> Scene {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let uuid = format!("GPU-test-{}-{number}", std::process::id());
        let folder = TempDir::new().expect("a folder");
        let book = folder.path().join("book");
        std::fs::write(&book, format!("{{\"used\": {BEFORE}, \"processes\": []}}"))
            .expect("a book");
        let prelude = PRELUDE
            .replace("@BOOK@", &book.display().to_string())
            .replace("@CONSTANTS@", &format!("{BEFORE}, {CONTEXT}, {RESERVED}, {GIB}, {OTHER}"));
        let (events, engine, load, loaded, done, wait) = (
            format!("{prelude}\nevents = os.fdopen"),
            "engine = ENGINE or {".to_owned(),
            format!("{open}\ntell(\"phase\", name=\"load\")"),
            format!("{told}\ntell(\"loaded\")"),
            format!("{TOLD}{CEILINGS}tell(\"done\")"),
            format!("sys.stdin.read()\n{end}  #"),
        );
        let worker = made_up_with(&[
            ("events = os.fdopen", &events),
            ("engine = {", &engine),
            ("device=\"cpu\", nmse", "device=\"cuda:0\", nmse"),
            ("devices=[\"cpu\"]", "devices=[\"cuda:0\"]"),
            ("tell(\"phase\", name=\"load\")", &load),
            ("tell(\"loaded\")", &loaded),
            ("tell(\"done\")", &done),
            ("sys.stdin.read()  #", &wait),
        ]);
        let text = format!(
            "schema = 1\n[[model]]\nid = \"m\"\npath = \"{}\"\nquantization = \"q8_0\"\n\
             device = \"cuda\"\nexpect.vram = {{ min = \"2GB\", max = \"3GB\" }}\n\
             expect.ram = {{ max = \"1GB\" }}\n{more}",
            fixture("tiny/llama").display()
        );
        let manifest = folder.path().join("models.toml");
        Scene {
            host: host(&uuid),
            settings: settings(worker.path()),
            manifest: Manifest::parse(&text, "models.toml", Some(manifest)).expect("sound"),
            interrupt: Interrupt::default(),
            _worker: worker,
            folder,
        }
    }

    /// One in which all is as it should be.
    fn sound() -> Scene {
        Scene::new(OPEN, TOLD, "book(0)", "")
    }

    fn job(&self) -> ModelJob {
        ModelJob::plan(&self.manifest.models[0], &self.manifest)
    }

    fn measure(&self) -> Measurement {
        let readings: Arc<dyn Readings> = Arc::new(Book(self.folder.path().join("book")));
        let context = RunContext {
            settings: &self.settings,
            host: &self.host,
            workers: &Workers::at_hand(&self.settings.worker),
            readings: &readings,
            scratch: self.folder.path(),
            interrupt: &self.interrupt,
        };
        measure(&self.job(), &context)
    }

    fn verdict(&self, measurement: &Measurement) -> Verdict {
        Check::MemoryRange.verdict(measurement, &self.job().expectation)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for gpu in &self.host.gpus {
            // not there where no lock was taken
            let _ = std::fs::remove_file(format!("/tmp/modelgate-{}.lock", gpu.uuid));
        }
    }
}

fn host(uuid: &str) -> Host {
    Host {
        id: "0".into(),
        hostname: "host".into(),
        os: "Linux".into(),
        cpu: "CPU".into(),
        cores: 2,
        ram_bytes: 8 * GIB,
        gpus: vec![Gpu {
            name: "GPU".into(),
            uuid: uuid.into(),
            bus_id: "0".into(),
            vram_bytes: 80 * GIB,
            driver: "580.1".into(),
            cuda: "13.0".into(),
            compute_capability: "9.0".into(),
            mig: false,
        }],
        no_gpu_reason: None,
    }
}

fn device(measurement: &Measurement) -> &DeviceMemory {
    let said = (&measurement.failure, &measurement.worker_stderr);
    measurement.memory.devices.first().unwrap_or_else(|| panic!("a device: {said:?}"))
}

/// Asserts that the model was refused, with a message that says all this.
fn refused(measurement: &Measurement, kind: FailureKind, says: &[&str]) {
    let failure = measurement.failure.as_ref().expect("a failure");
    assert_eq!(failure.kind, kind, "{failure}");
    for part in says {
        assert!(failure.message.contains(part), "expected {part:?} in {failure}");
    }
    assert!(!failure.hint.is_empty());
}

#[test]
fn a_model_s_memory_is_told_from_both_sides() {
    let scene = Scene::sound();
    let measurement = scene.measure();
    assert_eq!(measurement.outcome, Outcome::Measured, "{:?}", measurement.failure);
    let uuid = &scene.host.gpus[0].uuid;
    let seen = format!("visible: {uuid} PCI_BUS_ID");
    assert!(measurement.worker_stderr.contains(&seen), "{}", measurement.worker_stderr);
    let figures = device(&measurement);
    assert_eq!((figures.device, &figures.uuid), (Device::Cuda(0), uuid));
    assert_eq!((figures.before, figures.after_unload), (BEFORE, Some(BEFORE)));
    assert_eq!((figures.after_load, figures.peak), (CONTEXT + RESERVED, CONTEXT + RESERVED));
    assert_eq!(figures.peak_source, PeakSource::Pool);
    assert!(figures.per_process && figures.samples > 20, "{figures:?}");
    let prediction = measurement.memory.prediction.as_ref().expect("a prediction");
    assert_eq!(prediction.device_baseline, Some(CONTEXT));
    let sum = prediction.weights + prediction.kv_cache + prediction.activations + CONTEXT;
    assert_eq!((prediction.device_peak, figures.predicted_peak), (sum, Some(sum)));
    let timeline = &measurement.memory.timeline;
    for (name, most) in
        [("cuda:0_used", BEFORE + CONTEXT + RESERVED), ("cuda:0_worker", CONTEXT + RESERVED)]
    {
        let series = &timeline.series[name];
        assert_eq!(series.len(), timeline.t_s.len());
        assert_eq!(series.iter().max(), Some(&most), "{name}");
    }
    // the measuring of ceilings takes hundreds of MB, which are not the model's
    let host = measurement.memory.host.as_ref().expect("host memory");
    assert!(host.peak_private < 200 * MB && host.peak_rss < 200 * MB, "{host:?}");
    assert_eq!(measurement.ceilings.len(), 1);
    let verdict = scene.verdict(&measurement);
    assert_eq!(verdict.status, Status::Passed, "{verdict:?}");
    assert!(verdict.observed.contains("shorter than 3 ms can be missed"), "{}", verdict.observed);
}

/// `scene` with another GPU before its own, which is `cuda:1` now, and asked for as such.
fn on_the_second_gpu(mut scene: Scene) -> Scene {
    let first = Gpu { uuid: "GPU-of-another".into(), ..scene.host.gpus[0].clone() };
    scene.host.gpus.insert(0, first);
    scene.manifest.models[0].device = DeviceChoice::Listed(vec![Device::Cuda(1)]);
    scene
}

#[test]
fn a_worker_counts_the_gpus_that_it_is_shown_and_reports_say_what_was_asked_for() {
    let open = format!("print('devices:', request['devices'])\n{OPEN}");
    let scene = on_the_second_gpu(Scene::new(&open, TOLD, "book(0)", ""));
    let measurement = scene.measure();
    assert_eq!(measurement.outcome, Outcome::Measured, "{:?}", measurement.failure);
    let said = &measurement.worker_stderr;
    assert!(said.contains("devices: ['cuda:0']"), "{said}");
    let (figures, second) = (device(&measurement), Device::Cuda(1));
    assert_eq!((figures.device, &figures.uuid), (second, &scene.host.gpus[1].uuid));
    assert_eq!(figures.peak, CONTEXT + RESERVED);
    assert_eq!(measurement.requested_devices, [second]);
    assert_eq!(measurement.devices, [second]);
    assert_eq!(measurement.devices_seen[0].device, second);
    assert_eq!(measurement.ceilings[0].device.to_string(), "cuda:1");
    assert!(measurement.tensors.list.iter().all(|tensor| tensor.device == second));
    assert!(measurement.memory.timeline.series.contains_key("cuda:1_used"));
}

#[test]
fn a_failure_in_a_worker_s_names_says_what_they_stand_for() {
    let told = "tell('failure', stage='load', kind='device_memory', message='cuda:0 is full', \
                hint='less')\n";
    let scene = on_the_second_gpu(Scene::new(OPEN, told, "", ""));
    let says = ["cuda:0 is full (cuda:0 of the worker is cuda:1)"];
    refused(&scene.measure(), FailureKind::DeviceMemory, &says);
    let scene = Scene::new(OPEN, told, "", "");
    let failure = scene.measure().failure.expect("a failure");
    assert_eq!(failure.message, "cuda:0 is full");
}

#[test]
fn what_another_process_takes_during_the_load_is_flagged_and_not_counted() {
    let told = "book(CONTEXT + RESERVED, (OTHER, 2 * GIB))\n\
                memory(RESERVED, RESERVED, *[BEFORE + CONTEXT + 2 * GIB] * 2)\n";
    let scene = Scene::new(OPEN, told, "book(0, (OTHER, 2 * GIB))", "");
    let measurement = scene.measure();
    let figures = device(&measurement);
    assert_eq!(figures.peak, CONTEXT + RESERVED);
    assert_eq!((figures.foreign_peak, figures.after_unload), (2 * GIB, Some(BEFORE)));
    let verdict = scene.verdict(&measurement);
    assert_eq!(verdict.status, Status::Passed, "{verdict:?}");
    let says = format!("not counted: intruder (process {OTHER}) 2.15 GB");
    assert!(verdict.observed.contains(&says), "{}", verdict.observed);
}

#[test]
fn where_the_worker_cannot_be_told_apart_the_check_fails() {
    // the ids that the driver shows are another namespace's
    let open = OPEN.replace("book(CONTEXT", "book(0, (5000001, CONTEXT)").replace(
        "(5000001, CONTEXT) + RESERVED)",
        "(5000001, CONTEXT + RESERVED), (5000002, 2 * GIB))",
    );
    let scene = Scene::new(&open, TOLD, "book(0)", "");
    let measurement = scene.measure();
    assert!(!device(&measurement).per_process);
    let verdict = scene.verdict(&measurement);
    assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
    let message = verdict.message.expect("a reason");
    assert!(message.contains("more than one came: 5000001, 5000002"), "{message}");
}

#[test]
fn memory_that_is_not_given_back_fails_the_check() {
    let scene = Scene::new(OPEN, TOLD, "PAUSE = 0\nbook(0, unowned=GIB)", "");
    let measurement = scene.measure();
    let verdict = scene.verdict(&measurement);
    assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
    let message = verdict.message.expect("a reason");
    assert!(message.contains("1.07 GB of cuda:0 were not released"), "{message}");
}

#[test]
fn a_crash_keeps_what_was_seen_of_the_device() {
    let scene = Scene::new(OPEN, "os.abort()", "", "");
    let measurement = scene.measure();
    assert_eq!(measurement.outcome, Outcome::Crashed, "{:?}", measurement.failure);
    let figures = device(&measurement);
    assert_eq!((figures.peak, figures.after_load), (CONTEXT + RESERVED, 0));
    assert_eq!(scene.verdict(&measurement).status, Status::Blocked);
}

#[test]
fn another_gpu_than_the_one_that_was_given_is_refused() {
    let open = OPEN.replace("uuid=UUID", "uuid=\"GPU-of-another\"");
    let scene = Scene::new(&open, TOLD, "book(0)", "");
    let uuid = &scene.host.gpus[0].uuid;
    let says = ["cuda:0: the worker opened GPU-of-another", &format!("expected {uuid}")];
    refused(&scene.measure(), FailureKind::DeviceMismatch, &says);
}

#[test]
fn a_worker_that_could_take_memory_unseen_is_refused() {
    let again = OPEN.replace("memory(0, 0", "# memory(0, 0");
    let (begin, rest) = OPEN.split_once("tell(").expect("a device");
    let (_, unopened) = rest.split_once("memory(").expect("a mark");
    let unopened = format!("{begin}memory({unopened}");
    let resumes = format!("{TOLD}tell(\"loaded\")\n{CEILINGS}tell(\"phase\", name=\"generate\")\n");
    for (open, told, says) in [
        (
            OPEN,
            format!("{CEILINGS}{TOLD}"),
            "`ceilings`, in which memory is not counted, began before",
        ),
        (OPEN, format!("{again}{TOLD}"), "cuda:0 was opened after the load had begun"),
        (&unopened, TOLD.to_owned(), "tensors are said to be on cuda:0, which the worker never"),
        (OPEN, resumes, "work on the model came after the phase ceilings"),
    ] {
        let measurement = Scene::new(open, &told, "book(0)", "").measure();
        refused(&measurement, FailureKind::Protocol, &[says]);
    }
}

#[test]
fn a_worker_or_driver_that_does_not_suit_is_refused_before_it_loads() {
    let other = |change: fn(&mut Gpu), says: &[&str]| {
        let mut scene = Scene::sound();
        change(&mut scene.host.gpus[0]);
        let measurement = scene.measure();
        refused(&measurement, FailureKind::DeviceMismatch, says);
        assert_eq!(measurement.worker_exit, None, "no model was given to it");
    };
    other(|gpu| gpu.compute_capability = "8.0".into(), &["capability 9.0", "has 8.0"]);
    other(|gpu| gpu.cuda = "12.4".into(), &["built with CUDA 13.0", "driver 580.1", "up to 12.4"]);
}

#[test]
fn a_hidden_gpu_is_missing_with_its_cause() {
    let mut scene = Scene::sound();
    scene.settings.visible_devices = Some("-1".into());
    let says = ["m needs the GPU cuda:0", "CUDA_VISIBLE_DEVICES=\"-1\" shows 0 of them"];
    refused(&scene.measure(), FailureKind::NoDevice, &says);
}

#[test]
fn a_model_that_cannot_fit_is_refused_with_the_arithmetic() {
    // weights alone are more: no worker is started
    let mut scene = Scene::sound();
    scene.settings.vram_limit = Some(MB);
    let measurement = scene.measure();
    let says = ["parameters in q8_0 take 2.79 MB", "MODELGATE_VRAM_LIMIT allows 1.00 MB"];
    refused(&measurement, FailureKind::DeviceMemory, &says);
    assert_eq!(measurement.worker_exit, None);
    // with what the device takes before the first weight it is too much
    scene.settings.vram_limit = Some(500 * MB);
    let measurement = scene.measure();
    let says = ["500 MB before the first weight", "500 MB are available"];
    refused(&measurement, FailureKind::DeviceMemory, &says);
    assert_eq!(measurement.failure.as_ref().map(|failure| failure.stage), Some(Stage::Prepare));
    assert!(measurement.worker_exit.is_some() && measurement.tensors.list.is_empty());
    scene.settings.vram_limit = Some(900_000 * MB);
    assert_eq!(scene.measure().outcome, Outcome::Measured, "more than there is, is no limit");
}

#[test]
fn a_model_that_the_host_cannot_hold_is_refused_before_a_worker_starts() {
    let mut scene = Scene::sound();
    scene.manifest.models[0].device = DeviceChoice::Listed(vec![Device::Cpu]);
    scene.host.ram_bytes = 20 * MB;
    let measurement = scene.measure();
    let says =
        ["does not fit into the host memory", "2.79 MB of weights in q8_0", "the host has 20.0 MB"];
    refused(&measurement, FailureKind::HostMemory, &says);
    assert_eq!(measurement.failure.as_ref().map(|failure| failure.stage), Some(Stage::Prepare));
    assert_eq!(measurement.worker_exit, None);
}

#[test]
fn a_gpu_that_another_run_measures_on_is_busy() {
    let scene = Scene::new(OPEN, &format!("time.sleep(3)\n{TOLD}"), "book(0)", "");
    let mut second = Scene::new(OPEN, TOLD, "book(0)", "stall = \"500ms\"\n");
    second.host = host(&scene.host.gpus[0].uuid);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| scene.measure());
        std::thread::sleep(Duration::from_millis(1500));
        let process = format!("another run (process {})", std::process::id());
        let says = ["is held by", process.as_str(), "m waited for 500 ms"];
        refused(&second.measure(), FailureKind::DeviceBusy, &says);
        assert_eq!(first.join().expect("no panic").outcome, Outcome::Measured);
    });
}

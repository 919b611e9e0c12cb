//! Tests of models on simulated GPUs. The harness is real; the list of GPUs and the readings of the
//! driver are simulated. The worker is a script that writes the device memory that it simulates to
//! a ledger file, from which the readings come.

use crate::support::settings;
use modelgate_harness::check::{Check, Status, Verdict};
use modelgate_harness::host::Host;
use modelgate_harness::manifest::{DeviceChoice, Manifest};
use modelgate_harness::measurement::{DeviceMemory, Measurement, Outcome, PeakSource};
use modelgate_harness::nvidia::{Gpu, MemoryReading, ProcessUse, Readings, UnreadableGpu};
use modelgate_harness::plan::ModelJob;
use modelgate_harness::run::{RunContext, measure};
use modelgate_harness::settings::Settings;
use modelgate_harness::signal::Interrupt;
use modelgate_harness::workers::Workers;
use modelgate_protocol::{Device, FailureKind, Stage};
use modelgate_testkit::workers::{Script, fixture, scripted_worker_with};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const MB: u64 = 1_000_000;
const GIB: u64 = 1 << 30;
/// The device memory in use before the worker starts, in bytes.
const BEFORE: u64 = 100 * MB;
/// The device memory of the CUDA context of the worker, in bytes.
const CONTEXT: u64 = 500 * MB;
/// The device memory that the worker reserves for the model, in bytes.
const RESERVED: u64 = 2 * GIB;
/// The id of another process on the GPU.
const OTHER: u32 = 1_000_000_007;

/// Python code in front of `scripted_worker.py`, which writes the ledger.
const PRELUDE: &str = r#"
import time
BEFORE, CONTEXT, RESERVED, GIB, OTHER = @CONSTANTS@
PAUSE = 0.2
ENGINE = {"name": "scripted", "version": "1", "build": "python", "compute_capability": "9.0",
          "cuda": "13.0"}

def record(own, *others, unowned=0):
    """Write the memory in use by this process, by other processes, and by no process."""
    rows = ([[os.getpid(), own]] if own else []) + [list(other) for other in others]
    used = BEFORE + unowned + sum(row[1] for row in rows)
    with open("@LEDGER@.new", "w", encoding="utf-8") as file:
        json.dump({"used": used, "processes": rows}, file)
    os.replace("@LEDGER@.new", "@LEDGER@")
    time.sleep(PAUSE)  # until the harness has sampled it

def memory(reserved, reserved_peak, outside, outside_peak):
    emit("device_memory", device="cuda:0", uuid=UUID, reserved=reserved,
         reserved_peak=reserved_peak, outside=outside, outside_peak=outside_peak,
         longest_gap_s=0.003)

if sys.argv[1:] == ["--engine"]:
    print(json.dumps(ENGINE))
    sys.exit(0)
UUID = os.environ["CUDA_VISIBLE_DEVICES"]
print("visible:", UUID, os.environ["CUDA_DEVICE_ORDER"])
"#;

/// The code of the worker before its first tensor: it opens the device, and starts the load.
const OPEN: &str = r#"record(CONTEXT)
emit("device", device="cuda:0", uuid=UUID, name="GPU", compute_capability="9.0",
     total=80 * GIB, baseline=BEFORE + CONTEXT, kernels_cached=None)
memory(0, 0, BEFORE + CONTEXT, BEFORE + CONTEXT)
record(CONTEXT + RESERVED)
"#;

/// The report of device memory that the worker sends after the load, and again at the end.
const RESIDENT: &str = "memory(RESERVED, RESERVED, BEFORE + CONTEXT, BEFORE + CONTEXT)\n";

/// The last code of the worker: it measures the ceilings of the hardware, for which it uses more
/// memory than for the model.
const CEILINGS: &str = r#"emit("phase", name="ceilings")
ballast = b"x" * (300 * 10 ** 6)
record(CONTEXT + 2 * RESERVED)
memory(0, 2 * RESERVED, BEFORE + 2 * CONTEXT, BEFORE + 2 * CONTEXT)
emit("ceiling", name="device_memory", device="cuda:0", bytes_per_s=1e12)
"#;

/// The readings of the driver, from the ledger file at this path.
struct Ledger(PathBuf);

impl Ledger {
    fn read(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(&self.0).expect("the ledger");
        serde_json::from_str(&text).expect("JSON")
    }
}

impl Readings for Ledger {
    fn memory(&self, _: &str) -> Result<MemoryReading, String> {
        let ledger = self.read();
        match ledger["used"].as_u64() {
            Some(used) => Ok(MemoryReading { used, total: 80 * GIB }),
            None => Err(ledger["error"].as_str().unwrap_or("no memory in the ledger").to_owned()),
        }
    }

    fn processes(&self, _: &str) -> Option<Vec<ProcessUse>> {
        let ledger = self.read();
        let process = |row: &serde_json::Value| {
            Some(ProcessUse { pid: u32::try_from(row[0].as_u64()?).ok()?, used: row[1].as_u64() })
        };
        ledger["processes"].as_array()?.iter().map(process).collect()
    }

    fn name(&self, pid: u32) -> Option<String> {
        (pid == OTHER).then(|| "intruder".to_owned())
    }
}

/// A simulated host with one GPU, a scripted worker, and a manifest with one model on the GPU.
struct Scene {
    folder: TempDir,
    _worker: Script,
    host: Host,
    settings: Settings,
    manifest: Manifest,
    interrupt: Interrupt,
}

impl Scene {
    /// Creates a scene whose worker runs the Python code `open` before the load, `loaded` after the
    /// load, and `end` after the request to end. `settings_toml` is added to the manifest entry.
    fn new(open: &str, loaded: &str, end: &str, settings_toml: &str) -> Scene {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let uuid = format!("GPU-test-{}-{number}", std::process::id());
        let folder = TempDir::new().expect("a folder");
        let ledger = folder.path().join("ledger");
        std::fs::write(&ledger, format!("{{\"used\": {BEFORE}, \"processes\": []}}"))
            .expect("a ledger");
        let prelude = PRELUDE
            .replace("@LEDGER@", &ledger.display().to_string())
            .replace("@CONSTANTS@", &format!("{BEFORE}, {CONTEXT}, {RESERVED}, {GIB}, {OTHER}"));
        let (events, engine, load, after_load, done, wait) = (
            format!("{prelude}\nevents = os.fdopen"),
            "engine = ENGINE or {".to_owned(),
            format!("{open}\nemit(\"phase\", name=\"load\")"),
            format!("{loaded}\nemit(\"loaded\")"),
            format!("{RESIDENT}{CEILINGS}emit(\"done\")"),
            format!("sys.stdin.read()\n{end}  #"),
        );
        let worker = scripted_worker_with(&[
            ("events = os.fdopen", &events),
            ("engine = {", &engine),
            ("device=\"cpu\", nmse", "device=\"cuda:0\", nmse"),
            ("devices=[\"cpu\"]", "devices=[\"cuda:0\"]"),
            ("emit(\"phase\", name=\"load\")", &load),
            ("emit(\"loaded\")", &after_load),
            ("emit(\"done\")", &done),
            ("sys.stdin.read()  #", &wait),
        ]);
        let text = format!(
            "schema = 1\n[[model]]\nid = \"m\"\npath = \"{}\"\nquantization = \"q8_0\"\n\
             device = \"cuda\"\nexpect.vram = {{ min = \"2GB\", max = \"3GB\" }}\n\
             expect.ram = {{ max = \"1GB\" }}\n{settings_toml}",
            fixture("tiny/llama").display()
        );
        let manifest = folder.path().join("models.toml");
        Scene {
            host: host(&uuid),
            settings: settings(worker.path()),
            manifest: Manifest::parse(&text, "models.toml", Some(manifest))
                .expect("a valid manifest"),
            interrupt: Interrupt::default(),
            _worker: worker,
            folder,
        }
    }

    /// Creates a scene in which all checks pass.
    fn passing() -> Scene {
        Scene::new(OPEN, RESIDENT, "record(0)", "")
    }

    fn job(&self) -> ModelJob {
        ModelJob::plan(&self.manifest.models[0], &self.manifest)
    }

    fn measure(&self) -> Measurement {
        let readings: Arc<dyn Readings> = Arc::new(Ledger(self.folder.path().join("ledger")));
        let context = RunContext {
            settings: &self.settings,
            host: &self.host,
            workers: &Workers::existing(&self.settings.worker),
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
            // the file does not exist if no lock was taken
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
        max_ram_bytes: None,
        memory_bytes_per_s: Some(20_000 * MB),
        gpus: vec![Gpu {
            name: "GPU".into(),
            uuid: uuid.into(),
            bus_id: "0".into(),
            vram_bytes: 80 * GIB,
            unified_memory: false,
            driver: "580.1".into(),
            cuda: "13.0".into(),
            compute_capability: "9.0".into(),
            mig: false,
        }],
        unreadable_gpus: Vec::new(),
        no_gpu_reason: None,
    }
}

/// Returns the memory of the first GPU of a measurement.
fn device(measurement: &Measurement) -> &DeviceMemory {
    let reasons = (&measurement.failure, &measurement.worker_stderr);
    measurement.memory.devices.first().unwrap_or_else(|| panic!("no device: {reasons:?}"))
}

/// Asserts that the measurement failed with this kind, and with a message that contains all
/// `parts`.
fn assert_refused(measurement: &Measurement, kind: FailureKind, parts: &[&str]) {
    let failure = measurement.failure.as_ref().expect("a failure");
    assert_eq!(failure.kind, kind, "{failure}");
    for part in parts {
        assert!(failure.message.contains(part), "expected {part:?} in {failure}");
    }
    assert!(!failure.hint.is_empty());
}

#[test]
fn the_device_memory_of_a_model_is_measured_by_the_worker_and_the_driver() {
    let scene = Scene::passing();
    let measurement = scene.measure();
    assert_eq!(measurement.outcome, Outcome::Measured, "{:?}", measurement.failure);
    let uuid = &scene.host.gpus[0].uuid;
    let visible = format!("visible: {uuid} PCI_BUS_ID");
    assert!(measurement.worker_stderr.contains(&visible), "{}", measurement.worker_stderr);
    let figures = device(&measurement);
    assert_eq!((figures.device, &figures.uuid), (Device::Cuda(0), uuid));
    assert_eq!((figures.before, figures.after_unload), (BEFORE, Some(BEFORE)));
    assert_eq!((figures.after_load, figures.peak), (CONTEXT + RESERVED, CONTEXT + RESERVED));
    assert_eq!(figures.peak_source, PeakSource::HighWaterMark);
    assert!(figures.per_process && figures.samples > 20, "{figures:?}");
    let prediction = measurement.memory.prediction.as_ref().expect("a prediction");
    assert_eq!(prediction.device_baseline, Some(CONTEXT));
    let sum = prediction.weights + prediction.kv_cache + prediction.activations + CONTEXT;
    assert_eq!((prediction.device_peak, figures.predicted_peak), (sum, Some(sum)));
    let timeline = &measurement.memory.timeline;
    for (name, peak) in
        [("cuda:0_used", BEFORE + CONTEXT + RESERVED), ("cuda:0_worker", CONTEXT + RESERVED)]
    {
        let series = &timeline.series[name];
        assert_eq!(series.len(), timeline.t_s.len());
        assert_eq!(series.iter().max(), Some(&peak), "{name}");
    }
    // the measurement of ceilings uses hundreds of MB, which do not belong to the model
    let host = measurement.memory.host.as_ref().expect("host memory");
    assert!(host.peak_private < 200 * MB && host.peak_rss < 200 * MB, "{host:?}");
    assert_eq!(measurement.ceilings.len(), 1);
    let verdict = scene.verdict(&measurement);
    assert_eq!(verdict.status, Status::Passed, "{verdict:?}");
    assert!(verdict.observed.contains("shorter than 3 ms can be missed"), "{}", verdict.observed);
}

/// Adds another GPU before the GPU of `scene`, which becomes `cuda:1`, and requests `cuda:1`.
fn on_the_second_gpu(mut scene: Scene) -> Scene {
    let first = Gpu { uuid: "GPU-of-another".into(), ..scene.host.gpus[0].clone() };
    scene.host.gpus.insert(0, first);
    scene.manifest.models[0].device = DeviceChoice::Listed(vec![Device::Cuda(1)]);
    scene
}

#[test]
fn a_gpu_that_cannot_be_read_fails_only_the_models_that_need_it() {
    let lost = |ordinal| UnreadableGpu {
        index: ordinal,
        ordinal: Some(ordinal),
        name: None,
        uuid: None,
        bus_id: None,
        mig: false,
        error: "device fell off the bus".into(),
    };
    // the lost GPU is before the GPU of the model, and after it
    for (lost_ordinal, ordinal) in [(0, 1), (1, 0)] {
        let mut scene = Scene::passing();
        scene.host.unreadable_gpus = vec![lost(lost_ordinal)];
        scene.manifest.models[0].device = DeviceChoice::Listed(vec![Device::Cuda(ordinal)]);
        let measurement = scene.measure();
        assert_eq!(measurement.outcome, Outcome::Measured, "{:?}", measurement.failure);
        assert_eq!(device(&measurement).uuid, scene.host.gpus[0].uuid);
        scene.manifest.models[0].device = DeviceChoice::Listed(vec![Device::Cuda(lost_ordinal)]);
        let error = format!("GPU {lost_ordinal}: device fell off the bus");
        let parts = ["which cannot be used", error.as_str()];
        assert_refused(&scene.measure(), FailureKind::DeviceNotFound, &parts);
    }
}

#[test]
fn the_error_of_the_driver_for_a_gpu_that_is_lost_after_the_inventory_is_reported() {
    let scene = Scene::passing();
    let ledger = r#"{"used": null, "processes": [], "error": "device fell off the bus"}"#;
    std::fs::write(scene.folder.path().join("ledger"), ledger).expect("a ledger");
    let parts = ["does not report the memory in use on cuda:0", "device fell off the bus"];
    assert_refused(&scene.measure(), FailureKind::DeviceNotFound, &parts);
}

#[test]
fn a_worker_counts_its_visible_gpus_and_the_report_has_the_requested_names() {
    let open = format!("print('devices:', request['devices'])\n{OPEN}");
    let scene = on_the_second_gpu(Scene::new(&open, RESIDENT, "record(0)", ""));
    let measurement = scene.measure();
    assert_eq!(measurement.outcome, Outcome::Measured, "{:?}", measurement.failure);
    let output = &measurement.worker_stderr;
    assert!(output.contains("devices: ['cuda:0']"), "{output}");
    let (figures, second) = (device(&measurement), Device::Cuda(1));
    assert_eq!((figures.device, &figures.uuid), (second, &scene.host.gpus[1].uuid));
    assert_eq!(figures.peak, CONTEXT + RESERVED);
    assert_eq!(measurement.requested_devices, [second]);
    assert_eq!(measurement.devices, [second]);
    assert_eq!(measurement.opened_devices[0].device, second);
    assert_eq!(measurement.ceilings[0].device.to_string(), "cuda:1");
    assert!(measurement.tensors.list.iter().all(|tensor| tensor.device == second));
    assert!(measurement.memory.timeline.series.contains_key("cuda:1_used"));
}

#[test]
fn device_names_in_a_failure_of_the_worker_are_explained_if_they_differ() {
    let failure = "emit('failure', stage='load', kind='device_memory', message='cuda:0 is full', \
                   hint='less')\n";
    let scene = on_the_second_gpu(Scene::new(OPEN, failure, "", ""));
    let parts = ["cuda:0 is full (cuda:0 of the worker is cuda:1)"];
    assert_refused(&scene.measure(), FailureKind::DeviceMemory, &parts);
    let scene = Scene::new(OPEN, failure, "", "");
    let failure = scene.measure().failure.expect("a failure");
    assert_eq!(failure.message, "cuda:0 is full");
}

#[test]
fn memory_of_another_process_during_the_load_is_reported_and_not_counted() {
    let loaded = "record(CONTEXT + RESERVED, (OTHER, 2 * GIB))\n\
                  memory(RESERVED, RESERVED, *[BEFORE + CONTEXT + 2 * GIB] * 2)\n";
    let scene = Scene::new(OPEN, loaded, "record(0, (OTHER, 2 * GIB))", "");
    let measurement = scene.measure();
    let figures = device(&measurement);
    assert_eq!(figures.peak, CONTEXT + RESERVED);
    assert_eq!((figures.foreign_peak, figures.after_unload), (2 * GIB, Some(BEFORE)));
    let verdict = scene.verdict(&measurement);
    assert_eq!(verdict.status, Status::Passed, "{verdict:?}");
    let expected = format!("not counted: intruder (process {OTHER}) 2.15 GB");
    assert!(verdict.observed.contains(&expected), "{}", verdict.observed);
}

#[test]
fn the_memory_check_fails_if_the_worker_cannot_be_identified_among_the_processes() {
    // the driver reports process ids of another namespace
    let open = OPEN.replace("record(CONTEXT", "record(0, (5000001, CONTEXT)").replace(
        "(5000001, CONTEXT) + RESERVED)",
        "(5000001, CONTEXT + RESERVED), (5000002, 2 * GIB))",
    );
    let scene = Scene::new(&open, RESIDENT, "record(0)", "");
    let measurement = scene.measure();
    assert!(!device(&measurement).per_process);
    let verdict = scene.verdict(&measurement);
    assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
    let message = verdict.message.expect("a reason");
    assert!(message.contains("more than one process started: 5000001, 5000002"), "{message}");
}

#[test]
fn device_memory_that_is_not_released_fails_the_check() {
    let scene = Scene::new(OPEN, RESIDENT, "PAUSE = 0\nrecord(0, unowned=GIB)", "");
    let measurement = scene.measure();
    let verdict = scene.verdict(&measurement);
    assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
    let message = verdict.message.expect("a reason");
    assert!(message.contains("1.07 GB of cuda:0 were not released"), "{message}");
}

#[test]
fn the_device_memory_before_a_crash_is_reported() {
    let scene = Scene::new(OPEN, "os.abort()", "", "");
    let measurement = scene.measure();
    assert_eq!(measurement.outcome, Outcome::Crashed, "{:?}", measurement.failure);
    let figures = device(&measurement);
    assert_eq!((figures.peak, figures.after_load), (CONTEXT + RESERVED, 0));
    assert_eq!(scene.verdict(&measurement).status, Status::Blocked);
}

#[test]
fn a_worker_that_opens_a_gpu_other_than_the_assigned_one_is_refused() {
    let open = OPEN.replace("uuid=UUID", "uuid=\"GPU-of-another\"");
    let scene = Scene::new(&open, RESIDENT, "record(0)", "");
    let uuid = &scene.host.gpus[0].uuid;
    let parts = ["cuda:0: the worker opened GPU-of-another", &format!("expected {uuid}")];
    assert_refused(&scene.measure(), FailureKind::DeviceMismatch, &parts);
}

#[test]
fn a_worker_whose_order_of_events_would_hide_memory_is_refused() {
    let open_again = OPEN.replace("memory(0, 0", "# memory(0, 0");
    let (begin, rest) = OPEN.split_once("emit(").expect("a device");
    let (_, unopened) = rest.split_once("memory(").expect("a mark");
    let unopened = format!("{begin}memory({unopened}");
    let resumed =
        format!("{RESIDENT}emit(\"loaded\")\n{CEILINGS}emit(\"phase\", name=\"generate\")\n");
    for (open, loaded, part) in [
        (
            OPEN,
            format!("{CEILINGS}{RESIDENT}"),
            "`ceilings`, in which memory is not counted, began before",
        ),
        (OPEN, format!("{open_again}{RESIDENT}"), "cuda:0 was opened after the start of the load"),
        (&unopened, RESIDENT.to_owned(), "cuda:0: the worker reports tensors on this device, but"),
        (OPEN, resumed, "work on the model followed the phase `ceilings`"),
    ] {
        let measurement = Scene::new(open, &loaded, "record(0)", "").measure();
        assert_refused(&measurement, FailureKind::Protocol, &[part]);
    }
}

#[test]
fn a_worker_for_another_gpu_or_a_newer_driver_is_refused_before_the_load() {
    let assert_mismatch = |change: fn(&mut Gpu), parts: &[&str]| {
        let mut scene = Scene::passing();
        change(&mut scene.host.gpus[0]);
        let measurement = scene.measure();
        assert_refused(&measurement, FailureKind::DeviceMismatch, parts);
        assert_eq!(measurement.worker_exit, None, "the worker was started with a model");
    };
    assert_mismatch(|gpu| gpu.compute_capability = "8.0".into(), &["capability 9.0", "has 8.0"]);
    assert_mismatch(
        |gpu| gpu.cuda = "12.4".into(),
        &["built with CUDA 13.0", "driver 580.1", "up to 12.4"],
    );
}

#[test]
fn a_gpu_hidden_by_cuda_visible_devices_is_reported_with_the_cause() {
    let mut scene = Scene::passing();
    scene.settings.visible_devices = Some("-1".into());
    let parts = ["m needs GPU cuda:0", "CUDA_VISIBLE_DEVICES=\"-1\" shows 0 devices"];
    assert_refused(&scene.measure(), FailureKind::DeviceNotFound, &parts);
}

#[test]
fn a_model_larger_than_the_device_memory_is_refused_with_the_calculation() {
    // the weights alone exceed the limit: no worker is started
    let mut scene = Scene::passing();
    scene.settings.vram_limit = Some(MB);
    let measurement = scene.measure();
    let parts = ["parameters in q8_0 take 2.79 MB", "MODELGATE_VRAM_LIMIT allows 1.00 MB"];
    assert_refused(&measurement, FailureKind::DeviceMemory, &parts);
    assert_eq!(measurement.worker_exit, None);
    // the weights and the device memory before the first weight exceed the limit
    scene.settings.vram_limit = Some(500 * MB);
    let measurement = scene.measure();
    let parts = ["500 MB before the first weight", "500 MB are available"];
    assert_refused(&measurement, FailureKind::DeviceMemory, &parts);
    assert_eq!(measurement.failure.as_ref().map(|failure| failure.stage), Some(Stage::Prepare));
    assert!(measurement.worker_exit.is_some() && measurement.tensors.list.is_empty());
    scene.settings.vram_limit = Some(900_000 * MB);
    assert_eq!(
        scene.measure().outcome,
        Outcome::Measured,
        "a limit above the device memory has no effect"
    );
}

#[test]
fn a_model_without_a_device_is_placed_on_a_gpu_on_which_it_fits() {
    let mut scene = Scene::passing();
    scene.manifest.models[0].device = DeviceChoice::Auto;
    let measurement = scene.measure();
    assert_eq!(measurement.outcome, Outcome::Measured, "{:?}", measurement.failure);
    assert_eq!(measurement.requested_devices, [Device::Cuda(0)]);
    let reason = measurement.device_reason.as_deref().expect("a reason");
    assert!(reason.ends_with("and cuda:0 (GPU) has 85.9 GB"), "{reason}");

    scene.settings.device = Some(Device::Cuda(0));
    let reason = scene.measure().device_reason;
    assert_eq!(reason.as_deref(), Some("MODELGATE_DEVICE is cuda:0"));

    // a GPU that is too small
    scene.settings.device = None;
    scene.host.gpus[0].vram_bytes = 500 * MB;
    let measurement = scene.measure();
    let parts = ["because the manifest sets expect.vram", "cuda:0 (GPU) has 500 MB"];
    assert_refused(&measurement, FailureKind::DeviceMemory, &parts);
    assert_eq!((&measurement.requested_devices[..], measurement.worker_exit), (&[][..], None));
    scene.manifest.models[0].expect.memory.vram = None;
    let measurement = scene.measure();
    assert_eq!(measurement.requested_devices, [Device::Cpu]);
    let reason = measurement.device_reason.as_deref().expect("a reason");
    assert!(
        reason.contains("cuda:0 (GPU) has 500 MB; the predicted rate on the CPU is"),
        "{reason}"
    );

    // a slow host: the model needs 2.6 MB for each token
    scene.host.memory_bytes_per_s = Some(2 * MB);
    let parts = ["tokens/s: 2.00 MB/s of host memory bandwidth", "expected at least 1 token/s"];
    assert_refused(&scene.measure(), FailureKind::DeviceMemory, &parts);
}

#[test]
fn without_a_worker_for_a_chosen_gpu_the_hint_names_the_cpu() {
    let mut scene = Scene::passing();
    scene.host.gpus[0].compute_capability = "8.0".into();
    scene.manifest.models[0].expect.memory.vram = None;
    let cpu = "set `device = \"cpu\"`";
    for (device, names_cpu) in
        [(DeviceChoice::Auto, true), (DeviceChoice::Listed(vec![Device::Cuda(0)]), false)]
    {
        scene.manifest.models[0].device = device;
        let measurement = scene.measure();
        let parts = ["was built for compute capability 9.0"];
        assert_refused(&measurement, FailureKind::DeviceMismatch, &parts);
        let hint = &measurement.failure.as_ref().expect("a failure").hint;
        assert_eq!(hint.contains(cpu), names_cpu, "{hint}");
    }
}

#[test]
fn a_model_without_a_device_fails_if_the_gpu_on_which_it_fits_is_busy() {
    let mut scene = Scene::passing();
    scene.manifest.models[0].device = DeviceChoice::Auto;
    let ledger = format!("{{\"used\": {}, \"processes\": []}}", 80 * GIB - 10 * MB);
    std::fs::write(scene.folder.path().join("ledger"), ledger).expect("a ledger");
    let measurement = scene.measure();
    assert_eq!(measurement.requested_devices, [Device::Cuda(0)]);
    assert_refused(&measurement, FailureKind::DeviceMemory, &["10.0 MB are available"]);
}

#[test]
fn a_model_larger_than_the_host_memory_is_refused_before_a_worker_starts() {
    let mut scene = Scene::passing();
    scene.manifest.models[0].device = DeviceChoice::Listed(vec![Device::Cpu]);
    scene.host.ram_bytes = 20 * MB;
    let measurement = scene.measure();
    let parts =
        ["does not fit into the host memory", "2.79 MB of weights in q8_0", "the host has 20.0 MB"];
    assert_refused(&measurement, FailureKind::HostMemory, &parts);
    assert_eq!(measurement.failure.as_ref().map(|failure| failure.stage), Some(Stage::Prepare));
    assert_eq!(measurement.worker_exit, None);
    // the host can grow
    scene.host.max_ram_bytes = Some(25 * MB);
    let measurement = scene.measure();
    assert_refused(&measurement, FailureKind::HostMemory, &["the host has 25.0 MB"]);
    scene.host.max_ram_bytes = Some(8 * GIB);
    let refusal = scene.measure().failure.map(|failure| failure.kind);
    assert_ne!(refusal, Some(FailureKind::HostMemory));
}

#[test]
fn a_gpu_that_another_run_uses_is_reported_as_busy() {
    let scene = Scene::new(OPEN, &format!("time.sleep(3)\n{RESIDENT}"), "record(0)", "");
    let mut second = Scene::new(OPEN, RESIDENT, "record(0)", "stall = \"500ms\"\n");
    second.host = host(&scene.host.gpus[0].uuid);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| scene.measure());
        std::thread::sleep(Duration::from_millis(1500));
        let process = format!("another run (process {})", std::process::id());
        let parts = ["is held by", process.as_str(), "m waited for 500 ms"];
        assert_refused(&second.measure(), FailureKind::DeviceBusy, &parts);
        assert_eq!(first.join().expect("no panic").outcome, Outcome::Measured);
    });
}

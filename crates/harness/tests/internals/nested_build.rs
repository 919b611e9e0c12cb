//! The build of a worker with CUDA, with programs that stand in for cargo and nvcc: they write down
//! what they are asked and told, and what they build is a worker that says what it was built for.

use crate::support::settings;
use modelgate_harness::host::Host;
use modelgate_harness::manifest::Manifest;
use modelgate_harness::measurement::Outcome;
use modelgate_harness::nvidia::{Assigned, Gpu, NvmlReadings, Readings, assign};
use modelgate_harness::plan::ModelJob;
use modelgate_harness::reportable::Reportable;
use modelgate_harness::run::{RunContext, measure};
use modelgate_harness::settings::{BuildSettings, Settings, WorkerSettings};
use modelgate_harness::signal::Interrupt;
use modelgate_harness::workers::{BuiltWorker, CudaBuild, Workers, engine_of};
use modelgate_hub::Variables;
use modelgate_protocol::{Device, Engine, Failure, FailureKind, Stage};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

/// What cargo is asked to do.
const ARGUMENTS: &str = "build --release --locked --features cuda --bin modelgate-worker";

/// The packages that a worker is built from.
const PACKAGES: [&str; 6] = [
    "modelgate",
    "modelgate-engine",
    "modelgate-harness",
    "modelgate-hub",
    "modelgate-model",
    "modelgate-protocol",
];

/// A host with sources, cargo, a CUDA toolkit, a worker without CUDA, and GPUs.
struct Place {
    folder: TempDir,
    build: BuildSettings,
    inherited: Variables,
    interrupt: Interrupt,
}

impl Place {
    fn new() -> Place {
        let folder = TempDir::new().expect("a folder");
        let mut place = Place {
            folder,
            build: BuildSettings::default(),
            inherited: Variables::from_process(),
            interrupt: Interrupt::default(),
        };
        place.build.sources = Some(place.at("sources"));
        place.build.folders = vec![place.at("builds")];
        place.build.toolkit = place.at("no-toolkit");
        place.write("sources/Cargo.toml", "[package]\nname = \"modelgate\"\n");
        place.write("sources/Cargo.lock", "version = 4\n");
        place.write("sources/src/lib.rs", "//! A library.\n");
        place.write("sources/crates/engine/src/kernels.cu", "// kernels\n");
        place.program("cuda/bin/nvcc", "echo 'Cuda compilation tools, release 13.0, V13.0.88'");
        place.write("cuda/lib/libcudart.so.13", "");
        place.program("at-hand", &says(None));
        let cargo = CARGO.replace("PLACE", &place.at("").display().to_string());
        place.program("bin/cargo", &cargo);
        place.build.variables.set("CARGO", place.at("bin/cargo"));
        place.build.variables.set("CUDA_HOME", place.at("cuda"));
        place.build.variables.set("PATH", "/usr/bin:/bin");
        // the compiler of this host, if it has one, has no part in this
        place.build.variables.set("NVCC", place.at("cuda/bin/nvcc"));
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    /// Written by a process of its own: what this one has open for writing while another thread
    /// starts a program cannot be started itself.
    fn program(&self, name: &str, text: &str) {
        let text_file = format!("{name}.text");
        self.write(&text_file, &format!("#!/bin/sh\n{text}\n"));
        let status = Command::new("install")
            .args(["-m", "755"])
            .args([self.at(&text_file), self.at(name)])
            .status()
            .expect("install runs");
        assert!(status.success(), "{name}");
    }

    fn build(&self) -> CudaBuild<'_> {
        CudaBuild { settings: &self.build, inherited: &self.inherited, interrupt: &self.interrupt }
    }

    /// What `built` says of itself.
    fn engine(&self, built: &BuiltWorker) -> Engine {
        engine_of(built, &self.inherited, &self.interrupt).expect("it starts")
    }

    fn worker(&self) -> Result<BuiltWorker, Failure> {
        self.build()
            .worker_for(&gpu("9.0"), "the worker at hand has no CUDA")
            .map_err(|error| error.to_failure())
    }

    /// Two workers that are asked for at the same time.
    fn two_workers_at_once(&self) -> (Result<BuiltWorker, Failure>, Result<BuiltWorker, Failure>) {
        std::thread::scope(|scope| {
            let (one, other) = (scope.spawn(|| self.worker()), scope.spawn(|| self.worker()));
            (one.join().expect("it ends"), other.join().expect("it ends"))
        })
    }

    /// The command lines that cargo has seen.
    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.at("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The workers for the models of a manifest on a host with these GPUs.
    fn workers(&self, models: &str, worker: &WorkerSettings, host: &Host) -> Workers {
        let manifest = manifest(models);
        let first_gpu = |model| {
            let job = ModelJob::plan(model, &manifest);
            let devices = job.devices(Device::Cpu);
            assign(&devices, &model.id, host.gpus(), None).ok()?.into_iter().next()
        };
        Workers::prepare(manifest.models.iter().filter_map(first_gpu), worker, &self.build())
    }

    fn at_hand(&self) -> WorkerSettings {
        WorkerSettings {
            named: None,
            built: vec![self.at("at-hand")],
            variables: self.inherited.clone(),
        }
    }
}

/// Stands in for cargo. Files of these names make it fail, die in the middle of writing, or work
/// while the sources are edited. It has nothing to clean.
const CARGO: &str = r##"if [ "$1" = clean ]; then echo "$*" >> PLACE/cleans; exit 101; fi
echo "$*" >> PLACE/calls
env > PLACE/environment
pwd > PLACE/folder
echo "   Compiling stand-in v1.0.0" >&2
while [ $# -gt 0 ]; do
  if [ "$1" = --target-dir ]; then target=$2; fi
  shift
done
mkdir -p "$target/release"
worker="$target/release/modelgate-worker"
if [ -e PLACE/slow ]; then sleep 0.5; fi
if [ -e PLACE/edits ]; then
  echo "// edited" >> PLACE/sources/src/lib.rs
  if [ "$(cat PLACE/edits)" = once ]; then rm PLACE/edits; fi
fi
if [ -e PLACE/fails ]; then
  for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do echo "note: number $n" >&2; done
  echo "error: linking with cc failed" >&2
  exit 101
fi
minor=${CUDA_COMPUTE_CAP#${CUDA_COMPUTE_CAP%?}}
capability="\"${CUDA_COMPUTE_CAP%?}.$minor\""
if [ -e PLACE/forgets ]; then capability=null; fi
echo "#!/bin/sh" > "$worker"
chmod +x "$worker"
echo '{"reason":"compiler-artifact","target":{"name":"modelgate-worker"},"executable":"'$worker'"}'
if [ -e PLACE/dies ]; then kill -9 $$; fi
echo "echo '{\"name\":\"x\",\"version\":\"1\",\"build\":\"x\",\"compute_capability\":$capability}'" >> "$worker"
"##;

/// The text of a worker that says what it was built for.
fn says(capability: Option<&str>) -> String {
    let capability = capability.map_or("null".to_owned(), |of| format!("\"{of}\""));
    format!(r#"echo '{{"name":"x","version":"1","build":"x","compute_capability":{capability}}}'"#)
}

fn gpu(capability: &str) -> Gpu {
    Gpu {
        name: "NVIDIA H200".into(),
        uuid: format!("GPU-{capability}"),
        vram_bytes: 141 << 30,
        driver: "580.65.06".into(),
        cuda: "13.0".into(),
        compute_capability: capability.into(),
        bus_id: "0".into(),
        mig: false,
    }
}

fn host(capabilities: &[&str]) -> Host {
    Host {
        gpus: capabilities.iter().map(|capability| gpu(capability)).collect(),
        no_gpu_reason: capabilities.is_empty().then(|| "no NVIDIA driver".to_owned()),
        ..Host::inspect()
    }
}

/// The GPUs that a model on `device` gets.
fn assigned(device: Device, host: &Host) -> Vec<Assigned> {
    assign(&[device], "m", host.gpus(), None).expect("it is there")
}

fn manifest(models: &str) -> Manifest {
    let text = format!("schema = 1\n{models}");
    Manifest::parse(&text, "models.toml", None).expect("a manifest")
}

fn model(id: &str, device: &str) -> String {
    format!(
        "[[model]]\nid = \"{id}\"\npath = \"/nowhere/{id}\"\nquantization = \"q4_k\"\n\
         device = \"{device}\"\n"
    )
}

/// Asserts that the failure names all three ways out.
fn has_ways_out(failure: &Failure) {
    assert_eq!((failure.stage, failure.kind), (Stage::Prepare, FailureKind::NoWorker));
    let ways = ["CUDA toolkit", "MODELGATE_WORKER", "cargo build --release --features cuda"];
    for way in ways {
        assert!(failure.hint.contains(way), "{way}: {failure:?}");
    }
    assert!(failure.message.contains("compute capability 9.0"), "{failure:?}");
    assert!(failure.message.starts_with("the worker at hand has no CUDA"), "{failure:?}");
}

#[test]
fn a_worker_is_built_once_and_kept() {
    let place = Place::new();
    let built = place.worker().expect("built");
    let calls = place.calls();
    assert_eq!(calls.len(), 1);
    let target = place.at("builds/sm_90-cuda-13.0/target");
    assert!(calls[0].starts_with(ARGUMENTS), "{calls:?}");
    assert!(calls[0].ends_with(&format!("--target-dir {}", target.display())), "{calls:?}");
    let folder = std::fs::read_to_string(place.at("folder")).expect("noted");
    let sources = place.at("sources").canonicalize().expect("a path");
    assert_eq!(Path::new(folder.trim()), sources);
    assert!(!built.program.starts_with(&target), "cargo's own file is not the one that is used");
    let cuda = place.at("cuda").canonicalize().expect("a path");
    assert_eq!(built.libraries, Some(cuda.join("lib")));
    let engine = place.engine(&built);
    assert_eq!(engine.compute_capability.as_deref(), Some("9.0"));

    assert_eq!(place.worker(), Ok(built.clone()), "the second run has it");
    assert_eq!(place.calls().len(), 1, "without a word to cargo");
    std::fs::remove_dir_all(&target).expect("removed");
    assert_eq!(place.worker(), Ok(built), "and needs nothing of cargo's");
}

#[test]
fn another_state_of_the_sources_is_another_worker() {
    let place = Place::new();
    let first = place.worker().expect("built");
    place.write("sources/crates/engine/src/kernels.cu", "// better kernels\n");
    let second = place.worker().expect("built");
    assert_ne!(first.program, second.program);
    assert_eq!(place.calls().len(), 2);
    place.write("sources/tests/suite_product/main.rs", "//! No part of a worker.\n");
    assert_eq!(place.worker(), Ok(second));
    place.write("sources/crates/engine/src/kernels.cu", "// kernels\n");
    assert_eq!(place.worker(), Ok(first), "the way back costs nothing");
    assert_eq!(place.calls().len(), 2);
}

#[test]
fn cargo_does_not_go_by_the_times_of_files() {
    let place = Place::new();
    place.worker().expect("built");
    let cleans = std::fs::read_to_string(place.at("cleans")).expect("noted");
    let target = place.at("builds/sm_90-cuda-13.0/target");
    let packages: String = PACKAGES.iter().map(|package| format!(" --package {package}")).collect();
    let expected =
        format!("clean --release --locked --target-dir {}{packages}\n", target.display());
    assert_eq!(cleans, expected);
    // each is a package of this workspace, and nothing else that a worker is built from is
    let tree = tree(&["--features", "cuda"]);
    let ours = tree.lines().filter(|line| line.starts_with("modelgate"));
    let ours: BTreeSet<&str> = ours.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(ours, BTreeSet::from(PACKAGES));
}

#[test]
fn sources_that_change_during_a_build_are_built_again() {
    let place = Place::new();
    place.write("edits", "once");
    let built = place.worker().expect("built");
    assert_eq!(place.calls().len(), 2);
    assert_eq!(place.worker(), Ok(built), "it is that of the sources as they are now");
    assert_eq!(place.calls().len(), 2);

    let place = Place::new();
    place.write("edits", "always");
    let failure = place.worker().expect_err("no worker");
    assert_eq!((failure.stage, failure.kind), (Stage::Prepare, FailureKind::NoWorker));
    assert!(failure.message.contains("the sources changed while"), "{failure:?}");
    assert_eq!(place.calls().len(), 2);
    std::fs::remove_file(place.at("edits")).expect("removed");
    place.worker().expect("built");
    assert_eq!(place.calls().len(), 3, "nothing was kept");
}

#[test]
fn another_capability_or_cuda_is_another_worker() {
    let place = Place::new();
    let hopper = place.worker().expect("built");
    let ada = place.build().worker_for(&gpu("8.9"), "no CUDA").expect("built");
    let engine = place.engine(&ada);
    assert_eq!(engine.compute_capability.as_deref(), Some("8.9"));
    place.program("cuda/bin/nvcc", "echo 'Cuda compilation tools, release 12.8, V12.8.93'");
    let older = place.worker().expect("built");
    assert_eq!(place.calls().len(), 3);
    assert!(hopper.program != ada.program && hopper.program != older.program);
}

#[test]
fn two_starts_at_once_build_once() {
    let place = Place::new();
    place.write("slow", "");
    let (one, other) = place.two_workers_at_once();
    assert!(one.is_ok(), "{one:?}");
    assert_eq!(one, other);
    assert_eq!(place.calls().len(), 1);
}

#[test]
fn two_starts_at_once_fail_once() {
    let place = Place::new();
    place.write("slow", "");
    place.write("fails", "");
    let (one, other) = place.two_workers_at_once();
    assert!(one.is_err(), "{one:?}");
    assert_eq!(one, other);
    assert_eq!(place.calls().len(), 1);
}

#[test]
fn a_build_that_fails_says_its_last_words_and_is_tried_again() {
    let place = Place::new();
    place.write("fails", "");
    let failure = place.worker().expect_err("no worker");
    assert_eq!((failure.stage, failure.kind), (Stage::Prepare, FailureKind::NoWorker));
    assert!(
        failure.message.ends_with("note: number 16\nerror: linking with cc failed"),
        "{failure:?}"
    );
    assert!(!failure.message.contains("number 1\n"), "not all of it: {failure:?}");
    let log = place.at("builds/sm_90-cuda-13.0/build.log");
    assert!(failure.hint.contains(&log.display().to_string()), "{failure:?}");
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(log.contains("Compiling stand-in") && log.contains("number 1\n"), "{log}");
    std::fs::remove_file(place.at("fails")).expect("removed");
    place.worker().expect("built");
    assert_eq!(place.calls().len(), 2);
}

#[test]
fn what_a_killed_build_leaves_is_not_used() {
    let place = Place::new();
    place.write("dies", "");
    let failure = place.worker().expect_err("no worker");
    assert!(failure.message.contains("signal: 9"), "{failure:?}");
    let left = place.at("builds/sm_90-cuda-13.0/target/release/modelgate-worker");
    assert!(left.is_file(), "half a worker is there");
    std::fs::remove_file(place.at("dies")).expect("removed");
    let built = place.worker().expect("built");
    assert_eq!(place.calls().len(), 2);
    place.engine(&built);
}

#[test]
fn a_worker_that_says_something_else_than_was_asked_for_is_not_kept() {
    let place = Place::new();
    place.write("forgets", "");
    let failure = place.worker().expect_err("refused");
    assert!(failure.message.contains("says that it was built for none"), "{failure:?}");
    std::fs::remove_file(place.at("forgets")).expect("removed");
    place.worker().expect("built");
    assert_eq!(place.calls().len(), 2);
}

#[test]
fn without_a_compiler_there_are_three_ways_out() {
    let mut place = Place::new();
    std::fs::remove_dir_all(place.at("cuda")).expect("removed");
    place.build.variables.set("PATH", place.at("bin"));
    let failure = place.worker().expect_err("no compiler");
    assert!(failure.message.contains("nvcc, CUDA's compiler, is not in PATH"), "{failure:?}");
    has_ways_out(&failure);
    assert_eq!(place.calls().len(), 0);
}

#[test]
fn never_means_that_nothing_is_built() {
    let mut place = Place::new();
    place.build.never = true;
    let failure = place.worker().expect_err("forbidden");
    assert!(failure.message.contains("MODELGATE_BUILD=never"), "{failure:?}");
    has_ways_out(&failure);
    assert!(failure.hint.starts_with("unset MODELGATE_BUILD"), "{failure:?}");
    assert_eq!(place.calls().len(), 0);
    place.build.never = false;
    let built = place.worker();
    place.build.never = true;
    assert_eq!(place.worker(), built, "what is there already is used");
}

#[test]
fn without_sources_nothing_can_be_built() {
    let mut place = Place::new();
    place.build.sources = None;
    let failure = place.worker().expect_err("no sources");
    assert!(failure.message.contains("the sources are not on this host"), "{failure:?}");
    has_ways_out(&failure);
    assert_eq!(place.calls().len(), 0);
}

#[test]
fn a_toolkit_that_is_newer_than_the_driver_is_refused_before_the_build() {
    let place = Place::new();
    let old = Gpu { cuda: "12.4".into(), driver: "550.54.15".into(), ..gpu("9.0") };
    let failure = place.build().worker_for(&old, "no CUDA").expect_err("refused").to_failure();
    assert_eq!(failure.kind, FailureKind::DeviceMismatch);
    for part in ["CUDA 13.0", "550.54.15", "12.4"] {
        assert!(failure.message.contains(part), "{failure:?}");
    }
    assert_eq!(place.calls().len(), 0);
}

#[test]
fn cargo_gets_an_environment_of_its_own() {
    let mut place = Place::new();
    place.build.variables.remove(|name| name == "CUDA_HOME");
    for name in ["CARGO_MANIFEST_DIR", "CARGO_TARGET_DIR", "CARGO_PKG_NAME", "MODELGATE_DEVICE"] {
        place.build.variables.set(name, "of the tests");
    }
    place.build.variables.set("CARGO_HOME", "/home/user/.cargo");
    place.worker().expect("built");
    let text = std::fs::read_to_string(place.at("environment")).expect("noted");
    assert!(!text.contains("of the tests"), "{text}");
    let cuda = place.at("cuda").canonicalize().expect("a path");
    let expected = [
        "CARGO_HOME=/home/user/.cargo".to_owned(),
        "CUDA_COMPUTE_CAP=90".to_owned(),
        format!("CUDA_HOME={}", cuda.display()),
        format!("LIBRARY_PATH={}/lib", cuda.display()),
    ];
    for line in expected {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[test]
fn models_on_gpus_get_their_worker_and_others_the_one_at_hand() {
    let place = Place::new();
    let host = host(&["9.0", "8.9"]);
    let models = ["cpu", "cuda", "cuda:1", "cuda:0", "cuda:7"];
    let models: String =
        models.iter().enumerate().map(|(n, device)| model(&format!("m{n}"), device)).collect();
    let workers = place.workers(&models, &place.at_hand(), &host);
    assert_eq!(place.calls().len(), 2, "one for each capability, none for a GPU that is not there");
    let of = |device| {
        let built = workers.for_gpus(&assigned(device, &host)).expect("a worker");
        let engine = place.engine(&built);
        (built, engine.compute_capability)
    };
    assert_eq!(of(Device::Cuda(0)).1.as_deref(), Some("9.0"));
    assert_eq!(of(Device::Cuda(1)).1.as_deref(), Some("8.9"));
    assert_eq!(of(Device::Cpu), (BuiltWorker::at(place.at("at-hand")), None));
}

#[test]
fn nothing_is_built_that_no_model_needs() {
    let place = Place::new();
    place.workers(&model("m", "cpu"), &place.at_hand(), &host(&["9.0"]));
    place.workers(&model("m", "cuda"), &place.at_hand(), &host(&[]));
    place.program("at-hand", &says(Some("9.0")));
    let host = host(&["9.0"]);
    let workers = place.workers(&model("m", "cuda"), &place.at_hand(), &host);
    assert_eq!(
        workers.for_gpus(&assigned(Device::Cuda(0), &host)).expect("a worker"),
        BuiltWorker::at(place.at("at-hand")),
        "a worker that fits is used as it is"
    );
    // a worker that the user names is the user's word, whatever it says
    place.program("named", &says(Some("8.0")));
    let named = WorkerSettings { named: Some(place.at("named")), ..place.at_hand() };
    let workers = place.workers(&model("m", "cuda"), &named, &host);
    assert_eq!(
        workers.for_gpus(&assigned(Device::Cuda(0), &host)).expect("a worker"),
        BuiltWorker::at(place.at("named"))
    );
    assert_eq!(place.calls(), [""; 0]);
}

#[test]
fn a_worker_at_hand_for_another_gpu_is_replaced() {
    let place = Place::new();
    place.program("at-hand", &says(Some("8.0")));
    let host = host(&["9.0"]);
    let workers = place.workers(&model("m", "cuda"), &place.at_hand(), &host);
    let built = workers.for_gpus(&assigned(Device::Cuda(0), &host)).expect("built");
    assert_ne!(built.program, place.at("at-hand"));
    assert_eq!(place.calls().len(), 1);
}

#[test]
fn a_model_without_a_worker_fails_with_the_reason() {
    let mut place = Place::new();
    place.build.never = true;
    let settings = Settings { worker: place.at_hand(), ..settings(&place.at("at-hand")) };
    let host = host(&["9.0"]);
    let manifest = manifest(&model("m", "cuda"));
    let workers = place.workers(&model("m", "cuda"), &settings.worker, &host);
    let readings: Arc<dyn Readings> = Arc::new(NvmlReadings::open());
    let context = RunContext {
        settings: &settings,
        host: &host,
        workers: &workers,
        readings: &readings,
        scratch: place.folder.path(),
        interrupt: &place.interrupt,
    };
    let measurement = measure(&ModelJob::plan(&manifest.models[0], &manifest), &context);
    assert_eq!(measurement.outcome, Outcome::Failed);
    let failure = measurement.failure.expect("a failure");
    assert_eq!((failure.stage, failure.kind), (Stage::Prepare, FailureKind::NoWorker));
    let at_hand = place.at("at-hand").display().to_string();
    let expected =
        format!("{at_hand} (engine x) was built without CUDA; NVIDIA H200 needs a worker for");
    assert!(failure.message.contains(&expected), "{failure:?}");
}

/// The tree of packages and their features that the worker is built from.
fn tree(features: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--locked", "--package", "modelgate", "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p} [{f}]"])
        .args(features)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_feature_brings_cuda_and_nothing_else_does() {
    let features_of = |tree: &str, package: &str| -> Option<Vec<String>> {
        let line = tree.lines().find(|line| line.starts_with(&format!("{package} v")))?;
        let features = line.rsplit_once('[')?.1.split(']').next()?;
        Some(features.split(',').map(str::to_owned).collect())
    };
    let with = tree(&["--features", "cuda"]);
    for package in ["candle-core", "candle-nn", "modelgate-engine"] {
        let features = features_of(&with, package).expect("in the tree");
        assert!(features.contains(&"cuda".to_owned()), "{package}: {features:?}");
    }
    let without = tree(&[]);
    assert!(features_of(&without, "candle-core").is_some_and(|f| !f.contains(&"cuda".to_owned())));
    for package in ["cudarc", "candle-kernels"] {
        assert!(features_of(&with, package).is_some(), "{package}");
        assert!(features_of(&without, package).is_none(), "{package}");
    }
}

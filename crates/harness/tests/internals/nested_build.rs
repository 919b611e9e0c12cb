//! Tests of the build of a worker with CUDA, with scripts in place of cargo and nvcc. The
//! script for cargo records its arguments and environment, and builds a script that reports the
//! requested compute capability as its engine.

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

/// The first arguments of a build by cargo.
const ARGUMENTS: &str = "build --release --locked --features cuda --bin modelgate-worker";

/// The packages from which a worker is built.
const PACKAGES: [&str; 6] = [
    "modelgate",
    "modelgate-engine",
    "modelgate-harness",
    "modelgate-hub",
    "modelgate-model",
    "modelgate-protocol",
];

/// A simulated host with sources, cargo, a CUDA toolkit and a worker without CUDA.
struct BuildHost {
    folder: TempDir,
    build: BuildSettings,
    inherited: Variables,
    interrupt: Interrupt,
}

impl BuildHost {
    fn new() -> BuildHost {
        let folder = TempDir::new().expect("a folder");
        let mut build_host = BuildHost {
            folder,
            build: BuildSettings::default(),
            inherited: Variables::from_process(),
            interrupt: Interrupt::default(),
        };
        build_host.build.sources = Some(build_host.at("sources"));
        build_host.build.folders = vec![build_host.at("builds")];
        build_host.build.toolkit = build_host.at("no-toolkit");
        build_host.write("sources/Cargo.toml", "[package]\nname = \"modelgate\"\n");
        build_host.write("sources/Cargo.lock", "version = 4\n");
        build_host.write("sources/src/lib.rs", "//! A library.\n");
        build_host.write("sources/crates/engine/src/kernels.cu", "// kernels\n");
        build_host.write_program(
            "cuda/bin/nvcc",
            "echo 'Cuda compilation tools, release 13.0, V13.0.88'",
        );
        build_host.write("cuda/lib/libcudart.so.13", "");
        build_host.write_program("existing", &worker_script(None));
        let cargo = CARGO.replace("PLACE", &build_host.at("").display().to_string());
        build_host.write_program("bin/cargo", &cargo);
        build_host.build.variables.set("CARGO", build_host.at("bin/cargo"));
        build_host.build.variables.set("CUDA_HOME", build_host.at("cuda"));
        build_host.build.variables.set("PATH", "/usr/bin:/bin");
        // keeps a real compiler of this host out of the test
        build_host.build.variables.set("NVCC", build_host.at("cuda/bin/nvcc"));
        build_host
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, text).expect("written");
    }

    /// Writes a shell script, with a separate process: Linux does not start a program that a
    /// process has open for writing, and a child process of another thread would inherit the open
    /// file.
    fn write_program(&self, name: &str, text: &str) {
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

    /// Returns the engine that `built` reports.
    fn engine(&self, built: &BuiltWorker) -> Engine {
        engine_of(built, &self.inherited, &self.interrupt).expect("the worker reports its engine")
    }

    /// Returns a worker for compute capability 9.0, which is built if it does not exist.
    fn worker(&self) -> Result<BuiltWorker, Failure> {
        self.build()
            .worker_for(&gpu("9.0"), "the existing worker has no CUDA")
            .map_err(|error| error.to_failure())
    }

    /// Returns the results of two requests for the same worker at the same time.
    fn two_concurrent_workers(
        &self,
    ) -> (Result<BuiltWorker, Failure>, Result<BuiltWorker, Failure>) {
        std::thread::scope(|scope| {
            let (one, other) = (scope.spawn(|| self.worker()), scope.spawn(|| self.worker()));
            (one.join().expect("no panic"), other.join().expect("no panic"))
        })
    }

    /// Returns the arguments of each build by cargo.
    fn builds(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.at("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Returns the workers for the models of a manifest on `host`.
    fn workers(&self, models: &str, worker: &WorkerSettings, host: &Host) -> Workers {
        let manifest = manifest(models);
        let first_gpu = |model| {
            let job = ModelJob::plan(model, &manifest);
            let devices = job.named_devices()?;
            assign(devices, &model.id, host.gpus(), None).ok()?.into_iter().next()
        };
        Workers::prepare(manifest.models.iter().filter_map(first_gpu), worker, &self.build())
    }

    /// Returns settings with the existing worker, which has no CUDA.
    fn existing_worker(&self) -> WorkerSettings {
        WorkerSettings {
            named: None,
            built: vec![self.at("existing")],
            variables: self.inherited.clone(),
        }
    }
}

/// The script in place of cargo. `PLACE` is the folder of the host. Its behaviour depends on
/// the files `slow`, `edits` (change the sources during the build), `fails`, `forgets` (report no
/// compute capability) and `dies` (end with an incomplete program). `cargo clean` fails.
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

/// Returns the text of a worker that reports this compute capability.
fn worker_script(capability: Option<&str>) -> String {
    let capability = capability.map_or("null".to_owned(), |value| format!("\"{value}\""));
    format!(r#"echo '{{"name":"x","version":"1","build":"x","compute_capability":{capability}}}'"#)
}

fn gpu(capability: &str) -> Gpu {
    Gpu {
        name: "NVIDIA H200".into(),
        uuid: format!("GPU-{capability}"),
        vram_bytes: 141 << 30,
        unified_memory: false,
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
        unreadable_gpus: Vec::new(),
        no_gpu_reason: capabilities.is_empty().then(|| "no NVIDIA driver".to_owned()),
        ..Host::inspect()
    }
}

/// Returns the GPUs that are assigned to a model on `device`.
fn assigned(device: Device, host: &Host) -> Vec<Assigned> {
    assign(&[device], "m", host.gpus(), None).expect("a GPU")
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

/// Asserts that the hint of the failure has all three solutions.
fn assert_hint_has_solutions(failure: &Failure) {
    assert_eq!((failure.stage, failure.kind), (Stage::Prepare, FailureKind::WorkerNotFound));
    let solutions = ["CUDA toolkit", "MODELGATE_WORKER", "cargo build --release --features cuda"];
    for solution in solutions {
        assert!(failure.hint.contains(solution), "{solution}: {failure:?}");
    }
    assert!(failure.message.contains("compute capability 9.0"), "{failure:?}");
    assert!(failure.message.starts_with("the existing worker has no CUDA"), "{failure:?}");
}

#[test]
fn a_worker_is_built_once_and_kept() {
    let build_host = BuildHost::new();
    let built = build_host.worker().expect("built");
    let builds = build_host.builds();
    assert_eq!(builds.len(), 1);
    let target = build_host.at("builds/sm_90-cuda-13.0/target");
    assert!(builds[0].starts_with(ARGUMENTS), "{builds:?}");
    assert!(builds[0].ends_with(&format!("--target-dir {}", target.display())), "{builds:?}");
    let folder = std::fs::read_to_string(build_host.at("folder")).expect("a recorded call");
    let sources = build_host.at("sources").canonicalize().expect("a path");
    assert_eq!(Path::new(folder.trim()), sources);
    assert!(!built.program.starts_with(&target), "the worker is not in the target folder of cargo");
    let cuda = build_host.at("cuda").canonicalize().expect("a path");
    assert_eq!(built.libraries, Some(cuda.join("lib")));
    let engine = build_host.engine(&built);
    assert_eq!(engine.compute_capability.as_deref(), Some("9.0"));

    assert_eq!(build_host.worker(), Ok(built.clone()), "the second run finds the worker");
    assert_eq!(build_host.builds().len(), 1, "the second run does not start cargo");
    std::fs::remove_dir_all(&target).expect("removed");
    assert_eq!(build_host.worker(), Ok(built), "the worker does not need the target folder");
}

#[test]
fn changed_sources_lead_to_another_worker() {
    let build_host = BuildHost::new();
    let first = build_host.worker().expect("built");
    build_host.write("sources/crates/engine/src/kernels.cu", "// better kernels\n");
    let second = build_host.worker().expect("built");
    assert_ne!(first.program, second.program);
    assert_eq!(build_host.builds().len(), 2);
    build_host.write("sources/tests/suite_product/main.rs", "//! Not a source of a worker.\n");
    assert_eq!(build_host.worker(), Ok(second));
    build_host.write("sources/crates/engine/src/kernels.cu", "// kernels\n");
    assert_eq!(build_host.worker(), Ok(first), "the earlier worker is kept");
    assert_eq!(build_host.builds().len(), 2);
}

#[test]
fn cargo_cleans_all_packages_of_the_worker_before_a_build() {
    let build_host = BuildHost::new();
    build_host.worker().expect("built");
    let cleans = std::fs::read_to_string(build_host.at("cleans")).expect("a recorded call");
    let target = build_host.at("builds/sm_90-cuda-13.0/target");
    let packages: String = PACKAGES.iter().map(|package| format!(" --package {package}")).collect();
    let expected =
        format!("clean --release --locked --target-dir {}{packages}\n", target.display());
    assert_eq!(cleans, expected);
    // the list has all packages of this workspace from which a worker is built
    let tree = tree(&["--features", "cuda"]);
    let packages = tree.lines().filter(|line| line.starts_with("modelgate"));
    let packages: BTreeSet<&str> = packages.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(packages, BTreeSet::from(PACKAGES));
}

#[test]
fn sources_that_change_during_a_build_are_built_again() {
    let build_host = BuildHost::new();
    build_host.write("edits", "once");
    let built = build_host.worker().expect("built");
    assert_eq!(build_host.builds().len(), 2);
    assert_eq!(build_host.worker(), Ok(built), "the worker is built from the current sources");
    assert_eq!(build_host.builds().len(), 2);

    let build_host = BuildHost::new();
    build_host.write("edits", "always");
    let failure = build_host.worker().expect_err("no worker");
    assert_eq!((failure.stage, failure.kind), (Stage::Prepare, FailureKind::WorkerNotFound));
    assert!(failure.message.contains("the sources changed during each of 2 builds"), "{failure:?}");
    assert_eq!(build_host.builds().len(), 2);
    std::fs::remove_file(build_host.at("edits")).expect("removed");
    build_host.worker().expect("built");
    assert_eq!(build_host.builds().len(), 3, "no worker was kept");
}

#[test]
fn another_compute_capability_or_cuda_version_leads_to_another_worker() {
    let build_host = BuildHost::new();
    let hopper = build_host.worker().expect("built");
    let ada = build_host.build().worker_for(&gpu("8.9"), "no CUDA").expect("built");
    let engine = build_host.engine(&ada);
    assert_eq!(engine.compute_capability.as_deref(), Some("8.9"));
    build_host
        .write_program("cuda/bin/nvcc", "echo 'Cuda compilation tools, release 12.8, V12.8.93'");
    let older = build_host.worker().expect("built");
    assert_eq!(build_host.builds().len(), 3);
    assert!(hopper.program != ada.program && hopper.program != older.program);
}

#[test]
fn two_concurrent_requests_build_once() {
    let build_host = BuildHost::new();
    build_host.write("slow", "");
    let (one, other) = build_host.two_concurrent_workers();
    assert!(one.is_ok(), "{one:?}");
    assert_eq!(one, other);
    assert_eq!(build_host.builds().len(), 1);
}

#[test]
fn two_concurrent_requests_share_a_failed_build() {
    let build_host = BuildHost::new();
    build_host.write("slow", "");
    build_host.write("fails", "");
    let (one, other) = build_host.two_concurrent_workers();
    assert!(one.is_err(), "{one:?}");
    assert_eq!(one, other);
    assert_eq!(build_host.builds().len(), 1);
}

#[test]
fn a_failed_build_is_reported_with_its_last_output_and_retried_by_the_next_run() {
    let build_host = BuildHost::new();
    build_host.write("fails", "");
    let failure = build_host.worker().expect_err("no worker");
    assert_eq!((failure.stage, failure.kind), (Stage::Prepare, FailureKind::WorkerNotFound));
    assert!(
        failure.message.ends_with("note: number 16\nerror: linking with cc failed"),
        "{failure:?}"
    );
    assert!(
        !failure.message.contains("number 1\n"),
        "the message has only the last lines: {failure:?}"
    );
    let log = build_host.at("builds/sm_90-cuda-13.0/build.log");
    assert!(failure.hint.contains(&log.display().to_string()), "{failure:?}");
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(log.contains("Compiling stand-in") && log.contains("number 1\n"), "{log}");
    std::fs::remove_file(build_host.at("fails")).expect("removed");
    build_host.worker().expect("built");
    assert_eq!(build_host.builds().len(), 2);
}

#[test]
fn an_incomplete_program_of_a_killed_build_is_not_used() {
    let build_host = BuildHost::new();
    build_host.write("dies", "");
    let failure = build_host.worker().expect_err("no worker");
    assert!(failure.message.contains("signal: 9"), "{failure:?}");
    let incomplete = build_host.at("builds/sm_90-cuda-13.0/target/release/modelgate-worker");
    assert!(incomplete.is_file(), "the incomplete program exists");
    std::fs::remove_file(build_host.at("dies")).expect("removed");
    let built = build_host.worker().expect("built");
    assert_eq!(build_host.builds().len(), 2);
    build_host.engine(&built);
}

#[test]
fn a_worker_that_reports_another_compute_capability_is_not_kept() {
    let build_host = BuildHost::new();
    build_host.write("forgets", "");
    let failure = build_host.worker().expect_err("refused");
    assert!(failure.message.contains("expected 9.0, found none"), "{failure:?}");
    std::fs::remove_file(build_host.at("forgets")).expect("removed");
    build_host.worker().expect("built");
    assert_eq!(build_host.builds().len(), 2);
}

#[test]
fn a_missing_compiler_is_reported_with_three_solutions() {
    let mut build_host = BuildHost::new();
    std::fs::remove_dir_all(build_host.at("cuda")).expect("removed");
    build_host.build.variables.set("PATH", build_host.at("bin"));
    let failure = build_host.worker().expect_err("no compiler");
    assert!(failure.message.contains("the CUDA compiler nvcc is not in PATH"), "{failure:?}");
    assert_hint_has_solutions(&failure);
    assert_eq!(build_host.builds().len(), 0);
}

#[test]
fn no_worker_is_built_if_builds_are_forbidden() {
    let mut build_host = BuildHost::new();
    build_host.build.never = true;
    let failure = build_host.worker().expect_err("forbidden");
    assert!(failure.message.contains("MODELGATE_BUILD=never"), "{failure:?}");
    assert_hint_has_solutions(&failure);
    assert!(failure.hint.starts_with("unset MODELGATE_BUILD"), "{failure:?}");
    assert_eq!(build_host.builds().len(), 0);
    build_host.build.never = false;
    let built = build_host.worker();
    build_host.build.never = true;
    assert_eq!(build_host.worker(), built, "a finished worker is used");
}

#[test]
fn missing_sources_are_reported_with_three_solutions() {
    let mut build_host = BuildHost::new();
    build_host.build.sources = None;
    let failure = build_host.worker().expect_err("no sources");
    assert!(failure.message.contains("the sources are not on this host"), "{failure:?}");
    assert_hint_has_solutions(&failure);
    assert_eq!(build_host.builds().len(), 0);
}

#[test]
fn a_toolkit_that_is_newer_than_the_driver_is_refused_before_the_build() {
    let build_host = BuildHost::new();
    let old = Gpu { cuda: "12.4".into(), driver: "550.54.15".into(), ..gpu("9.0") };
    let failure = build_host.build().worker_for(&old, "no CUDA").expect_err("refused").to_failure();
    assert_eq!(failure.kind, FailureKind::DeviceMismatch);
    for part in ["CUDA 13.0", "550.54.15", "12.4"] {
        assert!(failure.message.contains(part), "{failure:?}");
    }
    assert_eq!(build_host.builds().len(), 0);
}

#[test]
fn cargo_gets_the_environment_of_a_build_without_test_variables() {
    let mut build_host = BuildHost::new();
    build_host.build.variables.remove(|name| name == "CUDA_HOME");
    for name in ["CARGO_MANIFEST_DIR", "CARGO_TARGET_DIR", "CARGO_PKG_NAME", "MODELGATE_DEVICE"] {
        build_host.build.variables.set(name, "of the tests");
    }
    build_host.build.variables.set("CARGO_HOME", "/home/user/.cargo");
    build_host.worker().expect("built");
    let text = std::fs::read_to_string(build_host.at("environment")).expect("a recorded call");
    assert!(!text.contains("of the tests"), "{text}");
    let cuda = build_host.at("cuda").canonicalize().expect("a path");
    let expected = [
        "CARGO_HOME=/home/user/.cargo".to_owned(),
        "CUDA_COMPUTE_CAP=90".to_owned(),
        format!("CUDA_HOME={}", cuda.display()),
        format!("LIBRARY_PATH={}/lib", cuda.display()),
    ];
    for line in expected {
        assert!(text.lines().any(|found| found == line), "expected {line:?} in {text}");
    }
}

#[test]
fn models_on_gpus_get_a_worker_for_the_gpu_and_other_models_the_existing_worker() {
    let build_host = BuildHost::new();
    let host = host(&["9.0", "8.9"]);
    let models = ["cpu", "cuda", "cuda:1", "cuda:0", "cuda:7"];
    let models: String =
        models.iter().enumerate().map(|(n, device)| model(&format!("m{n}"), device)).collect();
    let workers = build_host.workers(&models, &build_host.existing_worker(), &host);
    assert_eq!(
        build_host.builds().len(),
        2,
        "one build per compute capability, and none for a missing GPU"
    );
    let worker_on = |device| {
        let built = workers.for_gpus(&assigned(device, &host)).expect("a worker");
        let engine = build_host.engine(&built);
        (built, engine.compute_capability)
    };
    assert_eq!(worker_on(Device::Cuda(0)).1.as_deref(), Some("9.0"));
    assert_eq!(worker_on(Device::Cuda(1)).1.as_deref(), Some("8.9"));
    assert_eq!(worker_on(Device::Cpu), (BuiltWorker::at(build_host.at("existing")), None));
}

#[test]
fn no_worker_is_built_if_no_model_needs_one() {
    let build_host = BuildHost::new();
    build_host.workers(&model("m", "cpu"), &build_host.existing_worker(), &host(&["9.0"]));
    build_host.workers(&model("m", "cuda"), &build_host.existing_worker(), &host(&[]));
    build_host.write_program("existing", &worker_script(Some("9.0")));
    let host = host(&["9.0"]);
    let workers = build_host.workers(&model("m", "cuda"), &build_host.existing_worker(), &host);
    assert_eq!(
        workers.for_gpus(&assigned(Device::Cuda(0), &host)).expect("a worker"),
        BuiltWorker::at(build_host.at("existing")),
        "a suitable worker is used without a build"
    );
    // a worker that the user names is used without a check of its compute capability
    build_host.write_program("named", &worker_script(Some("8.0")));
    let named =
        WorkerSettings { named: Some(build_host.at("named")), ..build_host.existing_worker() };
    let workers = build_host.workers(&model("m", "cuda"), &named, &host);
    assert_eq!(
        workers.for_gpus(&assigned(Device::Cuda(0), &host)).expect("a worker"),
        BuiltWorker::at(build_host.at("named"))
    );
    assert_eq!(build_host.builds(), [""; 0]);
}

#[test]
fn an_existing_worker_for_another_gpu_is_replaced() {
    let build_host = BuildHost::new();
    build_host.write_program("existing", &worker_script(Some("8.0")));
    let host = host(&["9.0"]);
    let workers = build_host.workers(&model("m", "cuda"), &build_host.existing_worker(), &host);
    let built = workers.for_gpus(&assigned(Device::Cuda(0), &host)).expect("built");
    assert_ne!(built.program, build_host.at("existing"));
    assert_eq!(build_host.builds().len(), 1);
}

#[test]
fn a_model_without_a_worker_fails_with_the_cause() {
    let mut build_host = BuildHost::new();
    build_host.build.never = true;
    let settings =
        Settings { worker: build_host.existing_worker(), ..settings(&build_host.at("existing")) };
    let host = host(&["9.0"]);
    let manifest = manifest(&model("m", "cuda"));
    let workers = build_host.workers(&model("m", "cuda"), &settings.worker, &host);
    let readings: Arc<dyn Readings> = Arc::new(NvmlReadings::open());
    let context = RunContext {
        settings: &settings,
        host: &host,
        workers: &workers,
        readings: &readings,
        scratch: build_host.folder.path(),
        interrupt: &build_host.interrupt,
    };
    let measurement = measure(&ModelJob::plan(&manifest.models[0], &manifest), &context);
    assert_eq!(measurement.outcome, Outcome::Failed);
    let failure = measurement.failure.expect("a failure");
    assert_eq!((failure.stage, failure.kind), (Stage::Prepare, FailureKind::WorkerNotFound));
    let existing = build_host.at("existing").display().to_string();
    let expected =
        format!("{existing} (engine x) was built without CUDA; NVIDIA H200 needs a worker for");
    assert!(failure.message.contains(&expected), "{failure:?}");
}

/// Returns the packages from which the worker is built, with their features, as `cargo tree` prints
/// them.
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
fn only_the_feature_cuda_enables_the_cuda_packages() {
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

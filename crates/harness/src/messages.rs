//! Snapshots of all messages and hints of the typed errors, for reading in the folder `snapshots`.
//! Each list has an exhaustive match: a new variant does not compile until it is listed.

use crate::acquire::AcquireError;
use crate::measurement::Unmeasured;
use crate::nvidia::{Gpu, GpuError, MissingGpu, UnreadableGpu, VERSION_MISMATCH};
use crate::plan::TextError;
use crate::reportable::Reportable;
use crate::settings::SettingsError;
use crate::supervise::{Cause, SuperviseError};
use crate::workers::{BuildObstacle, MissingLibrary, RecordedError, WorkerError};
use modelgate_model::ConfigError;
use modelgate_protocol::{Device, Stage};
use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Formats the errors for the snapshot: the variant, kind, stage, message and hint of each.
fn shown<E: Reportable>(errors: &[E], variant: impl Fn(&E) -> &'static str) -> String {
    let mut text = String::new();
    for error in errors {
        let failure = error.to_failure();
        let (kind, stage) = (failure.kind.name(), failure.stage.name());
        text += &format!("{}: {kind} ({stage})\n", variant(error));
        text += &format!("    {}\n    hint: {}\n\n", failure.message, failure.hint);
    }
    text
}

/// Asserts that `errors` contains `count` different variants.
fn assert_all<E>(errors: &[E], variant: impl Fn(&E) -> &'static str, count: usize) {
    let names: BTreeSet<&str> = errors.iter().map(variant).collect();
    assert_eq!(names.len(), count, "{names:?}");
}

fn gpu() -> Box<Gpu> {
    Box::new(Gpu {
        name: "NVIDIA H100".into(),
        uuid: "GPU-1".into(),
        bus_id: "00000000:01:00.0".into(),
        vram_bytes: 80 << 30,
        unified_memory: false,
        driver: "580.65".into(),
        cuda: "13.0".into(),
        compute_capability: "9.0".into(),
        mig: false,
    })
}

fn unreadable(mig: bool) -> Box<UnreadableGpu> {
    Box::new(UnreadableGpu {
        index: 1,
        ordinal: Some(1),
        name: Some("NVIDIA H100".into()),
        uuid: Some("GPU-2".into()),
        bus_id: None,
        mig,
        error: "the memory cannot be read: no permission".into(),
    })
}

fn denied() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "permission denied")
}

#[test]
fn gpu_errors() {
    let (device, program) = (Device::Cuda(0), PathBuf::from("/w/worker"));
    let model = || "m".to_owned();
    let missing = |reason| GpuError::Missing { model: model(), device, reason };
    let errors = [
        missing(MissingGpu::NoGpu("the driver reports no GPU".into())),
        missing(MissingGpu::Hidden {
            variable: "1".into(),
            shown: 1,
            cut: "it lists 1 of the 2 GPUs of the host".into(),
        }),
        missing(MissingGpu::TooFew(1)),
        missing(MissingGpu::NoAccess { accessible: 1, errors: "GPU 1: no permission".into() }),
        missing(MissingGpu::NoGpu(format!("{VERSION_MISMATCH}: RM detects a mismatch"))),
        GpuError::Unreadable { model: model(), device, gpu: unreadable(false) },
        GpuError::Unreadable { model: model(), device, gpu: unreadable(true) },
        GpuError::MigMode { model: model(), device, gpu: gpu() },
        GpuError::MigSlice { model: model(), device, slice: "MIG-5c1f".into() },
        GpuError::WithoutCuda { program: program.clone(), engine: "engine-x".into() },
        GpuError::ComputeCapability {
            program: program.clone(),
            built: "8.0".into(),
            device,
            gpu: gpu(),
        },
        GpuError::CudaVersion { program, built: "13.1".into(), gpu: gpu() },
        GpuError::MemoryUnknown { device, uuid: "GPU-1".into(), reason: "device is lost".into() },
        GpuError::Lock { path: "/tmp/modelgate-GPU-1.lock".into(), device, source: denied() },
        GpuError::Interrupted { device, signal: 2 },
        GpuError::Busy {
            model: model(),
            device,
            gpu: gpu(),
            holder: "another run (process 7)".into(),
            waited: Duration::from_secs(120),
        },
    ];
    let variant = |error: &GpuError| match error {
        GpuError::Missing { .. } => "Missing",
        GpuError::Unreadable { .. } => "Unreadable",
        GpuError::MigMode { .. } => "MigMode",
        GpuError::MigSlice { .. } => "MigSlice",
        GpuError::WithoutCuda { .. } => "WithoutCuda",
        GpuError::ComputeCapability { .. } => "ComputeCapability",
        GpuError::CudaVersion { .. } => "CudaVersion",
        GpuError::MemoryUnknown { .. } => "MemoryUnknown",
        GpuError::Lock { .. } => "Lock",
        GpuError::Interrupted { .. } => "Interrupted",
        GpuError::Busy { .. } => "Busy",
    };
    assert_all(&errors, variant, 11);
    insta::assert_snapshot!("gpu_errors", shown(&errors, variant));
}

#[test]
fn worker_errors() {
    let program = || PathBuf::from("/w/worker");
    let what = || "a worker for compute capability 9.0 with CUDA 13.0".to_owned();
    let log = || PathBuf::from("/w/build.log");
    let cannot = |obstacle| WorkerError::CannotBuild {
        lacks: "the worker /w/worker (engine engine-x) was built without CUDA".into(),
        gpu: "NVIDIA H100".into(),
        capability: "9.0".into(),
        obstacle,
    };
    let json_error = serde_json::from_str::<u32>("nonsense").expect_err("not JSON");
    let library = |name: &str| {
        let line = format!("w: error while loading shared libraries: {name}: cannot open");
        WorkerError::from(MissingLibrary::find(Some(127), &line).expect("a missing library"))
    };
    let failed = WorkerError::BuildFailed {
        what: what(),
        capability: "9.0".into(),
        status: Some(ExitStatus::from_raw(101 << 8)),
        lines: vec!["error: linking with cc failed".into()],
        log: log(),
    };
    let errors = [
        WorkerError::NamedNotFound(program()),
        WorkerError::NotFound(vec![program(), "/x/worker".into()]),
        WorkerError::NotStarted { program: program(), source: denied() },
        library("libcuda.so.1"),
        library("libcudart.so.13"),
        library("libstdc++.so.6"),
        WorkerError::NoAnswer { program: program(), limit: Duration::from_secs(30) },
        WorkerError::Interrupted { program: program(), signal: 2 },
        WorkerError::InvalidReply {
            program: program(),
            output: "nonsense".into(),
            source: json_error,
        },
        cannot(BuildObstacle::Forbidden),
        cannot(BuildObstacle::NoSources),
        cannot(BuildObstacle::NoToolkit("nvcc is not in PATH".into())),
        cannot(BuildObstacle::CompilerFailed("`nvcc --version` was killed by SIGKILL".into())),
        WorkerError::ToolkitTooNew {
            nvcc: "/cuda/bin/nvcc".into(),
            version: "13.1".into(),
            driver: "580.65".into(),
            gpu: "NVIDIA H100".into(),
            supported: "13.0".into(),
        },
        WorkerError::BuildFiles { what: "the sources", source: denied() },
        WorkerError::BuildInterrupted(2),
        WorkerError::SourcesChanged { what: what(), attempts: 2 },
        WorkerError::CargoNotStarted { what: what(), path: "cargo".into(), source: denied() },
        WorkerError::from(RecordedError::of(&failed)),
        failed,
        WorkerError::NoProgramBuilt { what: what(), log: log() },
        WorkerError::WrongBuild {
            program: program(),
            expected: "9.0".into(),
            found: "none".into(),
        },
    ];
    let variant = |error: &WorkerError| match error {
        WorkerError::NamedNotFound(_) => "NamedNotFound",
        WorkerError::NotFound(_) => "NotFound",
        WorkerError::NotStarted { .. } => "NotStarted",
        WorkerError::MissingLibrary(_) => "MissingLibrary",
        WorkerError::NoAnswer { .. } => "NoAnswer",
        WorkerError::Interrupted { .. } => "Interrupted",
        WorkerError::InvalidReply { .. } => "InvalidReply",
        WorkerError::CannotBuild { .. } => "CannotBuild",
        WorkerError::ToolkitTooNew { .. } => "ToolkitTooNew",
        WorkerError::BuildFiles { .. } => "BuildFiles",
        WorkerError::BuildInterrupted(_) => "BuildInterrupted",
        WorkerError::SourcesChanged { .. } => "SourcesChanged",
        WorkerError::CargoNotStarted { .. } => "CargoNotStarted",
        WorkerError::BuildFailed { .. } => "BuildFailed",
        WorkerError::NoProgramBuilt { .. } => "NoProgramBuilt",
        WorkerError::WrongBuild { .. } => "WrongBuild",
        WorkerError::Recorded(_) => "Recorded",
    };
    assert_all(&errors, variant, 17);
    insta::assert_snapshot!("worker_errors", shown(&errors, variant));
}

#[test]
fn acquire_errors() {
    let errors = [
        AcquireError::from(SettingsError::Hub {
            message: "HF_TOKEN: the token contains a line break".into(),
            hint: "set HF_TOKEN to one line".into(),
        }),
        AcquireError::BundledNotWritten {
            path: "tiny/llama".into(),
            scratch: "/tmp/modelgate-0".into(),
            source: denied(),
        },
        AcquireError::NoConfig("/m/config.json".into()),
        AcquireError::NoTokenizer("/m/tokenizer.json".into()),
        AcquireError::UnknownRepository("owner/name".into()),
        AcquireError::KnownConfigNotWritten {
            repo: "owner/name".into(),
            folder: "/tmp/modelgate-0/bundled".into(),
            source: denied(),
        },
        AcquireError::ConfigNotRead { path: "/m/config.json".into(), source: denied() },
        AcquireError::Config {
            path: "/m/config.json".into(),
            source: ConfigError::Unsupported("model_type \"x\" is not supported".into()),
        },
        AcquireError::Config {
            path: "/m/config.json".into(),
            source: ConfigError::Malformed("hidden_size is missing".into()),
        },
    ];
    let variant = |error: &AcquireError| match error {
        // the hub writes these messages: tests/suite_faults
        AcquireError::Hub(_) => "Hub",
        AcquireError::Layout(_) => "Layout",
        AcquireError::Settings(_) => "Settings",
        AcquireError::BundledNotWritten { .. } => "BundledNotWritten",
        AcquireError::NoConfig(_) => "NoConfig",
        AcquireError::NoTokenizer(_) => "NoTokenizer",
        AcquireError::UnknownRepository(_) => "UnknownRepository",
        AcquireError::KnownConfigNotWritten { .. } => "KnownConfigNotWritten",
        AcquireError::ConfigNotRead { .. } => "ConfigNotRead",
        AcquireError::Config { .. } => "Config",
    };
    assert_all(&errors, variant, 8);
    insta::assert_snapshot!("acquire_errors", shown(&errors, variant));
}

#[test]
fn supervise_errors() {
    let causes = vec![
        Cause::NotStarted { program: "/w/worker".into(), source: denied() },
        Cause::NotStarted { program: "/w/worker".into(), source: io::Error::from_raw_os_error(12) },
        Cause::Protocol("the first event of the worker is not `hello`".into()),
        Cause::ChannelNotRead(io::Error::from_raw_os_error(5)),
        Cause::WrongDevice {
            device: Device::Cuda(0),
            uuid: "GPU-2".into(),
            expected: "expected GPU-1 (NVIDIA H100)".into(),
        },
        Cause::Deadline(Duration::from_secs(2700)),
        Cause::Stalled(Duration::from_secs(120)),
        Cause::Interrupted(2),
        Cause::MissingLibrary(
            MissingLibrary::find(Some(127), "error while loading shared libraries: libx.so: no")
                .expect("a missing library"),
        ),
        Cause::AllocationRefused { line: "memory allocation of 8 bytes failed".into() },
        Cause::OutOfMemory,
        Cause::ProbablyOutOfMemory,
        Cause::Crashed {
            how: "was killed by SIGSEGV".into(),
            last_output: "; last output: loading".into(),
        },
    ];
    let errors: Vec<SuperviseError> =
        causes.into_iter().map(|cause| cause.in_stage(Stage::Load)).collect();
    let variant = |error: &SuperviseError| match &error.cause {
        Cause::NotStarted { .. } => "NotStarted",
        Cause::Protocol(_) => "Protocol",
        Cause::ChannelNotRead(_) => "ChannelNotRead",
        Cause::WrongDevice { .. } => "WrongDevice",
        Cause::Deadline(_) => "Deadline",
        Cause::Stalled(_) => "Stalled",
        Cause::Interrupted(_) => "Interrupted",
        Cause::MissingLibrary(_) => "MissingLibrary",
        Cause::AllocationRefused { .. } => "AllocationRefused",
        Cause::OutOfMemory => "OutOfMemory",
        Cause::ProbablyOutOfMemory => "ProbablyOutOfMemory",
        Cause::Crashed { .. } => "Crashed",
    };
    assert_all(&errors, variant, 12);
    insta::assert_snapshot!("supervise_errors", shown(&errors, variant));
}

#[test]
fn other_errors() {
    let texts = [
        TextError::NotRead { path: "/m/text.txt".into(), source: denied() },
        TextError::NotBundled("text.txt".into()),
        TextError::Empty("/m/text.txt".into()),
    ];
    let text_variant = |error: &TextError| match error {
        TextError::NotRead { .. } => "NotRead",
        TextError::NotBundled(_) => "NotBundled",
        TextError::Empty(_) => "Empty",
    };
    assert_all(&texts, text_variant, 3);
    let unmeasured = [
        Unmeasured::Waiting,
        Unmeasured::Interrupted,
        Unmeasured::Abandoned,
        Unmeasured::Incomplete,
    ];
    let unmeasured_variant = |error: &Unmeasured| match error {
        Unmeasured::Waiting => "Waiting",
        Unmeasured::Interrupted => "Interrupted",
        Unmeasured::Abandoned => "Abandoned",
        Unmeasured::Incomplete => "Incomplete",
    };
    assert_all(&unmeasured, unmeasured_variant, 4);
    let all = shown(&texts, text_variant) + &shown(&unmeasured, unmeasured_variant);
    insta::assert_snapshot!("other_errors", all);
}

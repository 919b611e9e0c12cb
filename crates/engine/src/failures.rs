//! Makes failures of the protocol, in one place so that they read alike.

use modelgate_protocol::{Failure, FailureKind, Stage};
use std::io;
use std::path::Path;

/// The hint for a file that is not what it should be.
pub(crate) const FETCH_AGAIN: &str = "download the file again, and compare its size and checksum";

/// Makes a failure while loading.
pub(crate) fn load(
    kind: FailureKind,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Failure {
    Failure::new(Stage::Load, kind, message, hint)
}

/// Makes a failure before the first word about the model: devices, kernels, the request.
pub(crate) fn start(
    kind: FailureKind,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Failure {
    Failure::new(Stage::Start, kind, message, hint)
}

/// Makes a failure while generating or measuring the perplexity.
pub(crate) fn generate(
    kind: FailureKind,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Failure {
    Failure::new(Stage::Generate, kind, message, hint)
}

/// Makes the failure for a file that violates its format.
pub(crate) fn corrupt(path: &Path, what: impl std::fmt::Display) -> Failure {
    load(FailureKind::Corrupt, format!("{}: {what}", path.display()), FETCH_AGAIN)
}

/// Makes the failure for a file that cannot be opened or read.
pub(crate) fn io(path: &Path, error: &io::Error) -> Failure {
    let message = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => load(
            FailureKind::NotFound,
            message,
            "check the path of the model, or download it \
                                                  again",
        ),
        io::ErrorKind::InvalidData => corrupt(path, error),
        io::ErrorKind::UnexpectedEof => load(
            FailureKind::Corrupt,
            format!("{}: the file ended while it was read", path.display()),
            FETCH_AGAIN,
        ),
        io::ErrorKind::PermissionDenied => load(
            FailureKind::Io,
            message,
            "give the user of this process the permission to read the file",
        ),
        _ => load(FailureKind::Io, message, "check the disk and the file system"),
    }
}

/// Makes the failure for host memory that cannot be allocated.
pub(crate) fn host_memory(bytes: u64, what: &str) -> Failure {
    load(
        FailureKind::HostMemory,
        format!("{bytes} bytes of host memory for {what} cannot be allocated"),
        "use a smaller context, a quantization with fewer bits, or a host with more memory",
    )
}

/// Makes the failure for device memory that cannot be allocated.
pub(crate) fn device_memory(stage: Stage, what: impl std::fmt::Display) -> Failure {
    Failure::new(
        stage,
        FailureKind::DeviceMemory,
        format!("device memory ran out: {what}"),
        "use a smaller context or a quantization with fewer bits, end other processes on the \
         device, or use a device with more memory",
    )
}

/// Makes a failure of a tokenizer or a chat template.
pub(crate) fn tokenizer(stage: Stage, message: impl Into<String>, hint: &str) -> Failure {
    Failure::new(stage, FailureKind::Tokenizer, message, hint)
}

/// Returns a function that makes failures of unexpected errors of candle.
pub(crate) fn internal(stage: Stage) -> impl Fn(candle_core::Error) -> Failure {
    move |error| {
        let text = error.to_string();
        if text.contains("CUDA_ERROR_OUT_OF_MEMORY") {
            return device_memory(stage, text.lines().next().unwrap_or_default());
        }
        Failure::new(
            stage,
            FailureKind::Internal,
            format!("the engine failed: {error}"),
            "report this defect of modelgate with the name of the model",
        )
    }
}

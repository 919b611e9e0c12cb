//! Creates the failures of the protocol in one place, so that their wording is uniform.

use modelgate_model::other_format::OtherFormat;
use modelgate_model::symlinks::{DANGLING_HINT, dangling_message, missing_target};
use modelgate_protocol::{Failure, FailureKind, Stage};
use std::io;
use std::path::Path;

/// The hint for a file whose content is not as expected.
pub(crate) const DOWNLOAD_AGAIN_HINT: &str =
    "download the file again, and compare its size and checksum";

/// Creates a failure of the load stage.
pub(crate) fn load(
    kind: FailureKind,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Failure {
    Failure::new(Stage::Load, kind, message, hint)
}

/// Creates a failure of the start stage, before the model is read: a failure of the device, of the
/// kernels or of the request.
pub(crate) fn start(
    kind: FailureKind,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Failure {
    Failure::new(Stage::Start, kind, message, hint)
}

/// Creates a failure of the generate stage, which includes the measurement of the perplexity.
pub(crate) fn generate(
    kind: FailureKind,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Failure {
    Failure::new(Stage::Generate, kind, message, hint)
}

/// Creates the failure for a file that violates its format. `what` describes the violation.
pub(crate) fn corrupt(path: &Path, what: impl std::fmt::Display) -> Failure {
    load(FailureKind::Corrupt, format!("{}: {what}", path.display()), DOWNLOAD_AGAIN_HINT)
}

/// Creates the failure for a file that cannot be opened or read.
pub(crate) fn io(path: &Path, error: &io::Error) -> Failure {
    let message = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => match missing_target(path) {
            Some(target) => {
                load(FailureKind::NotFound, dangling_message(path, &target), DANGLING_HINT)
            }
            None => load(
                FailureKind::NotFound,
                message,
                "check the path of the model; or download the model again",
            ),
        },
        io::ErrorKind::InvalidData => {
            let kind = match OtherFormat::of_error(error) {
                Some(OtherFormat::BigEndianGguf) => FailureKind::Unsupported,
                _ => FailureKind::Corrupt,
            };
            load(kind, message, content_hint(error))
        }
        io::ErrorKind::UnexpectedEof => load(
            FailureKind::Corrupt,
            format!("{}: the file ended before all expected bytes were read", path.display()),
            DOWNLOAD_AGAIN_HINT,
        ),
        io::ErrorKind::PermissionDenied => load(
            FailureKind::Io,
            message,
            "give the user of this process permission to read the file",
        ),
        _ => load(FailureKind::Io, message, "check the disk and the file system"),
    }
}

/// Returns the hint for the content of a file that is not as expected, from the error of reading it.
pub(crate) fn content_hint(error: &io::Error) -> &'static str {
    OtherFormat::of_error(error).map_or(DOWNLOAD_AGAIN_HINT, OtherFormat::hint)
}

/// Creates the failure for `bytes` bytes of host memory that cannot be allocated. `what` names
/// their purpose.
pub(crate) fn host_memory(bytes: u64, what: &str) -> Failure {
    load(
        FailureKind::HostMemory,
        format!("host memory for {what}: cannot allocate {bytes} bytes"),
        "use a smaller context; or use a quantization with fewer bits; or use a host with more \
         memory",
    )
}

/// Creates the failure for device memory that cannot be allocated. `what` describes the error.
pub(crate) fn device_memory(stage: Stage, what: impl std::fmt::Display) -> Failure {
    Failure::new(
        stage,
        FailureKind::DeviceMemory,
        format!("device memory ran out: {what}"),
        "use a smaller context; or use a quantization with fewer bits; or end other processes on \
         the device; or use a device with more memory",
    )
}

/// Creates a failure of a tokenizer or a chat template.
pub(crate) fn tokenizer(stage: Stage, message: impl Into<String>, hint: &str) -> Failure {
    Failure::new(stage, FailureKind::Tokenizer, message, hint)
}

/// Returns a function that converts errors of candle to failures: to `device_memory` if device
/// memory ran out, otherwise to `internal`.
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

//! Why something did not happen, in words that a person and a program can both use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kept a model from being measured whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// Where in the flow it happened.
    pub stage: Stage,
    /// Its class.
    pub kind: FailureKind,
    /// What, where, expected, found.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// A step of the flow.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Before any file: devices, worker binary, expectations that nothing could satisfy.
    Prepare,
    /// Turning the source into local files.
    Acquire,
    /// From the worker's spawn to its first word about the model.
    Start,
    /// Reading, quantizing, placing the weights.
    Load,
    /// Prompts, answers, perplexity.
    Generate,
    /// After the last answer, until the process is reaped.
    Unload,
}

impl Stage {
    /// The name as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Prepare => "prepare",
            Stage::Acquire => "acquire",
            Stage::Start => "start",
            Stage::Load => "load",
            Stage::Generate => "generate",
            Stage::Unload => "unload",
        }
    }
}

/// Classes of failure, each with a remedy of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No file or folder, or no model in it.
    NotFound,
    /// The hub may not be asked, and the local cache does not have it.
    Offline,
    /// The hub wants a token and there is none.
    NoToken,
    /// The hub does not know the token, or it may not read this repository.
    TokenRefused,
    /// The repository's licence has to be accepted first.
    LicenceNotAccepted,
    /// The hub shows no such repository.
    RepositoryNotFound,
    /// The repository has no such branch, tag or commit.
    RevisionNotFound,
    /// The repository has no such file, or none that makes a model.
    FileNotFound,
    /// The name of the hub's host cannot be resolved.
    NameResolution,
    /// No connection to the hub, or one that was cut again and again.
    Connect,
    /// No trusted connection to the hub: its certificate, or what stands in between.
    Tls,
    /// The hub did not answer in time, or too slowly.
    Timeout,
    /// The hub asks to wait for longer than a run does.
    RateLimited,
    /// The hub says that it has an error of its own.
    ServerError,
    /// An answer that is none of a hub.
    BadAnswer,
    /// No room for the files.
    DiskFull,
    /// The cache, or its locks, cannot be written.
    CacheNotWritable,
    /// A file that cannot be read: permissions, input/output errors.
    Io,
    /// A file that is not what its format says: truncated, absurd lengths, bad header.
    Corrupt,
    /// A sound file that this engine does not handle: architecture, quantized checkpoint, type.
    Unsupported,
    /// The architecture needs a tensor that no file has.
    TensorMissing,
    /// A tensor whose shape is not what the architecture needs.
    TensorShape,
    /// A tensor that the architecture does not account for.
    TensorLeftOver,
    /// NaN or infinity in a weight.
    NonFinite,
    /// Tokenizer and model do not fit, or the tokenizer cannot be read.
    Tokenizer,
    /// The prompt and its answer do not fit the context.
    ContextLength,
    /// Host memory ran out.
    HostMemory,
    /// Device memory ran out.
    DeviceMemory,
    /// The device that the manifest asks for is not on this host.
    NoDevice,
    /// Another run holds the device.
    DeviceBusy,
    /// Driver, device and worker do not fit together: too old, or built for another one.
    DeviceMismatch,
    /// The device computes something else than the CPU does.
    DeviceWrong,
    /// No worker program, or one that cannot be started.
    NoWorker,
    /// An expectation that no load of this model could satisfy.
    Impossible,
    /// An unoptimised build was asked to load a large model.
    Unoptimised,
    /// The worker said something that the protocol does not know.
    Protocol,
    /// The worker ended by a signal or an exit code of its own.
    Crashed,
    /// The worker took longer than its deadline.
    Deadline,
    /// The worker made no progress for too long.
    Stalled,
    /// A signal ended the run.
    Interrupted,
    /// Something that should not happen: a defect of modelgate itself.
    Internal,
}

impl FailureKind {
    /// The name as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::NotFound => "not_found",
            FailureKind::Offline => "offline",
            FailureKind::NoToken => "no_token",
            FailureKind::TokenRefused => "token_refused",
            FailureKind::LicenceNotAccepted => "licence_not_accepted",
            FailureKind::RepositoryNotFound => "repository_not_found",
            FailureKind::RevisionNotFound => "revision_not_found",
            FailureKind::FileNotFound => "file_not_found",
            FailureKind::NameResolution => "name_resolution",
            FailureKind::Connect => "connect",
            FailureKind::Tls => "tls",
            FailureKind::Timeout => "timeout",
            FailureKind::RateLimited => "rate_limited",
            FailureKind::ServerError => "server_error",
            FailureKind::BadAnswer => "bad_answer",
            FailureKind::DiskFull => "disk_full",
            FailureKind::CacheNotWritable => "cache_not_writable",
            FailureKind::Io => "io",
            FailureKind::Corrupt => "corrupt",
            FailureKind::Unsupported => "unsupported",
            FailureKind::TensorMissing => "tensor_missing",
            FailureKind::TensorShape => "tensor_shape",
            FailureKind::TensorLeftOver => "tensor_left_over",
            FailureKind::NonFinite => "non_finite",
            FailureKind::Tokenizer => "tokenizer",
            FailureKind::ContextLength => "context_length",
            FailureKind::HostMemory => "host_memory",
            FailureKind::DeviceMemory => "device_memory",
            FailureKind::NoDevice => "no_device",
            FailureKind::DeviceBusy => "device_busy",
            FailureKind::DeviceMismatch => "device_mismatch",
            FailureKind::DeviceWrong => "device_wrong",
            FailureKind::NoWorker => "no_worker",
            FailureKind::Impossible => "impossible",
            FailureKind::Unoptimised => "unoptimised",
            FailureKind::Protocol => "protocol",
            FailureKind::Crashed => "crashed",
            FailureKind::Deadline => "deadline",
            FailureKind::Stalled => "stalled",
            FailureKind::Interrupted => "interrupted",
            FailureKind::Internal => "internal",
        }
    }
}

/// The longest message, in bytes. Messages quote names and values of files and servers, which may be as
/// long as they like; what is asked of a message is in its first lines.
const LONGEST_MESSAGE: usize = 4096;

impl Failure {
    /// A failure of `kind` in `stage`, with no more of its message than a person reads.
    pub fn new(
        stage: Stage,
        kind: FailureKind,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Failure {
        let mut message = message.into();
        if message.len() > LONGEST_MESSAGE {
            let rest = message.split_off(message.floor_char_boundary(LONGEST_MESSAGE));
            message.push_str(&format!(".. and {} bytes more", rest.len()));
        }
        Failure { stage, kind, message, hint: hint.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}): {}", self.kind.name(), self.stage.name(), self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_no_longer_than_a_person_reads() {
        let of = |message: String| {
            Failure::new(Stage::Load, FailureKind::Corrupt, message, "fetch it again").message
        };
        assert_eq!(of("x".repeat(4096)), "x".repeat(4096));
        let long = of("\u{e9}".repeat(1 << 20));
        assert!(long.len() < 4200 && long.ends_with("2093056 bytes more"), "{}", &long[4000..]);
    }
}

//! Failures, in a form for people and for programs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a model could not be measured completely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The step in which it happened.
    pub stage: Stage,
    /// The kind. Programs match on it.
    pub kind: FailureKind,
    /// The message: what failed and where, with the expected and the found value.
    pub message: String,
    /// How to fix it. Empty if no fix follows from the failure.
    pub hint: String,
}

/// The step in which a failure happened.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Before any file is read: devices, the worker program, ranges that no load can meet.
    Prepare,
    /// Locating, downloading and verifying the files.
    Acquire,
    /// From the start of the worker until its first event about the model.
    Start,
    /// Reading, quantizing and placing the weights.
    Load,
    /// Prompts, answers and perplexity.
    Generate,
    /// From the last answer until the worker has ended.
    Unload,
}

impl Stage {
    /// Returns the name in reports.
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

/// The kind of a failure. Each kind has its own fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The folder or file does not exist, or does not contain a model.
    /// Fix: name a folder with `config.json` and safetensors files, or a GGUF file.
    NotFound,
    /// `HF_HUB_OFFLINE` forbids requests to the hub, and the local cache is incomplete.
    /// Fix: run the `prefetch` command in the hint on a host with network access, or set `HF_HOME`
    /// to another cache.
    Offline,
    /// The repository is gated or private, and there is no token (HTTP status 401).
    /// Fix: accept the licence on the page in the hint, then run `hf auth login` or set `HF_TOKEN`.
    #[serde(alias = "no_token")]
    TokenMissing,
    /// The hub does not accept the token, or the token has no permission to read the repository
    /// (HTTP status 401 or 403).
    /// Fix: run `hf auth login` again, or give the token the permission to read the repository.
    TokenRefused,
    /// The account of the token has no access to the gated repository (HTTP status 403).
    /// Fix: accept the licence on the page in the hint, with the account of the token.
    LicenceNotAccepted,
    /// The repository does not exist, or it is private and there is no token.
    /// Fix: use the similar name in the hint, or set a token.
    RepositoryNotFound,
    /// The repository has no such branch, tag or commit.
    /// Fix: set `revision` in the manifest to one that the page of the repository lists.
    RevisionNotFound,
    /// The repository does not contain the file, or does not contain a model.
    /// Fix: use the similar name in the hint; a repository of GGUF files needs `file` in the
    /// manifest.
    FileNotFound,
    /// The name of the host of the hub cannot be resolved.
    /// Fix: check the network, the name servers and `HF_ENDPOINT`; or download elsewhere and set
    /// `HF_HUB_OFFLINE=1`.
    NameResolution,
    /// No connection to the hub is possible, or connections still break after several retries.
    /// Fix: check the firewall and `HTTPS_PROXY`, and start again: downloaded parts are kept.
    #[serde(alias = "connect")]
    Connection,
    /// The connection to the hub is not trusted: an unknown certificate, a wrong clock, or a server
    /// without TLS.
    /// Fix: set `SSL_CERT_FILE` to the certificate of the proxy, or set the clock.
    Tls,
    /// The hub did not answer in time, or too slowly.
    /// Fix: start again, or set `HF_HUB_DOWNLOAD_TIMEOUT` to more seconds.
    Timeout,
    /// The hub refuses requests for longer than a run waits (HTTP status 429).
    /// Fix: wait for the time in the message, set a token, or run one `prefetch` for many runs.
    RateLimited,
    /// The hub still reports an internal error after several retries (HTTP status 5xx).
    /// Fix: check status.huggingface.co, and start again later.
    ServerError,
    /// The answer is not that of a hub, for example the login page of a network.
    /// Fix: log in to the network, or check `HF_ENDPOINT`.
    #[serde(alias = "bad_answer")]
    InvalidResponse,
    /// The disk has no room for the files, or a quota or file size limit was reached.
    /// Fix: free space (`hf cache ls`), or move the cache with `HF_HOME`.
    DiskFull,
    /// The cache or its locks cannot be written, and files are missing in it.
    /// Fix: give the user write permission, or set `HF_HOME` to another folder.
    CacheNotWritable,
    /// A file cannot be read: missing permission, or an input/output error.
    /// Fix: check the permissions, the disk and the file system.
    Io,
    /// The content of a file is wrong: a hash, a size or a header does not match.
    /// Fix: download the file again; `prefetch` replaces a file with a wrong hash.
    Corrupt,
    /// The file is valid, but this engine cannot load it: architecture, block type, quantized
    /// checkpoint, or a pickle file.
    /// Fix: choose a supported architecture in 16 or 32 bits, or a GGUF file.
    Unsupported,
    /// The architecture requires a tensor that no file contains.
    /// Fix: download config and weights from the same commit.
    TensorMissing,
    /// The shape of a tensor is not the one that the config requires.
    /// Fix: download config and weights from the same commit.
    TensorShape,
    /// The files contain a tensor that the architecture does not use.
    /// Fix: download config and weights from the same commit.
    #[serde(alias = "tensor_left_over")]
    TensorUnexpected,
    /// A weight is NaN or infinite.
    /// Fix: use another checkpoint.
    NonFinite,
    /// The tokenizer or the chat template cannot be read, or does not match the vocabulary of the
    /// model.
    /// Fix: download the tokenizer files again from the repository of the model.
    Tokenizer,
    /// The prompt and the answer do not fit into the context.
    /// Fix: increase `context`, or decrease `max_tokens`.
    ContextLength,
    /// The host memory is not sufficient: an allocation failed, or the kernel killed the worker.
    /// Fix: use fewer bits, a shorter `context` or a smaller model, or free memory.
    HostMemory,
    /// The device memory is not sufficient; the message contains the arithmetic.
    /// Fix: use the quantization, the context or the smaller model in the hint, or end other
    /// processes on the GPU.
    DeviceMemory,
    /// The requested device does not exist on this host, or is hidden.
    /// Fix: compare `device` and `CUDA_VISIBLE_DEVICES` with the output of `nvidia-smi -L`.
    #[serde(alias = "no_device")]
    DeviceNotFound,
    /// Another run uses the GPU.
    /// Fix: wait for the other run, or increase `stall`.
    DeviceBusy,
    /// The worker, the driver and the GPU do not fit together: a worker that was built for another
    /// GPU, or a driver that is too old.
    /// Fix: build the worker again on this host, or update the driver.
    DeviceMismatch,
    /// The device computes results that differ from those of the CPU, or fails during the
    /// computation.
    /// Fix: build the worker again on this host, and check the log of the system for Xid errors.
    #[serde(alias = "device_wrong")]
    DeviceFault,
    /// There is no worker program for this device.
    /// Fix: unset `MODELGATE_WORKER`, or use one of the three ways in the hint.
    #[serde(alias = "no_worker")]
    WorkerNotFound,
    /// No load of this model can meet a range in `expect`; the message contains the arithmetic.
    /// Fix: set the range to the value in the hint.
    #[serde(alias = "impossible")]
    ExpectationUnreachable,
    /// A debug build is too slow to load a large model.
    /// Fix: run `cargo test --release`.
    #[serde(alias = "unoptimised")]
    DebugBuild,
    /// The worker sent something that the protocol does not allow.
    /// Fix: build the worker again from the same sources.
    Protocol,
    /// The worker ended by a signal or with an exit code before it was done.
    /// Fix: read the last lines of the worker in the report; check the log of the system.
    Crashed,
    /// The worker was ended after its `deadline`.
    /// Fix: read the phases in the report; increase `deadline`.
    #[serde(alias = "deadline")]
    DeadlineExceeded,
    /// There was no progress for the time of `stall`.
    /// Fix: check the disk, the network file system and the driver; increase `stall`.
    Stalled,
    /// A signal ended the run.
    /// Fix: start the run again: downloaded parts are kept.
    Interrupted,
    /// A defect of modelgate.
    /// Fix: report it with the message.
    Internal,
}

impl FailureKind {
    /// Returns the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::NotFound => "not_found",
            FailureKind::Offline => "offline",
            FailureKind::TokenMissing => "token_missing",
            FailureKind::TokenRefused => "token_refused",
            FailureKind::LicenceNotAccepted => "licence_not_accepted",
            FailureKind::RepositoryNotFound => "repository_not_found",
            FailureKind::RevisionNotFound => "revision_not_found",
            FailureKind::FileNotFound => "file_not_found",
            FailureKind::NameResolution => "name_resolution",
            FailureKind::Connection => "connection",
            FailureKind::Tls => "tls",
            FailureKind::Timeout => "timeout",
            FailureKind::RateLimited => "rate_limited",
            FailureKind::ServerError => "server_error",
            FailureKind::InvalidResponse => "invalid_response",
            FailureKind::DiskFull => "disk_full",
            FailureKind::CacheNotWritable => "cache_not_writable",
            FailureKind::Io => "io",
            FailureKind::Corrupt => "corrupt",
            FailureKind::Unsupported => "unsupported",
            FailureKind::TensorMissing => "tensor_missing",
            FailureKind::TensorShape => "tensor_shape",
            FailureKind::TensorUnexpected => "tensor_unexpected",
            FailureKind::NonFinite => "non_finite",
            FailureKind::Tokenizer => "tokenizer",
            FailureKind::ContextLength => "context_length",
            FailureKind::HostMemory => "host_memory",
            FailureKind::DeviceMemory => "device_memory",
            FailureKind::DeviceNotFound => "device_not_found",
            FailureKind::DeviceBusy => "device_busy",
            FailureKind::DeviceMismatch => "device_mismatch",
            FailureKind::DeviceFault => "device_fault",
            FailureKind::WorkerNotFound => "worker_not_found",
            FailureKind::ExpectationUnreachable => "expectation_unreachable",
            FailureKind::DebugBuild => "debug_build",
            FailureKind::Protocol => "protocol",
            FailureKind::Crashed => "crashed",
            FailureKind::DeadlineExceeded => "deadline_exceeded",
            FailureKind::Stalled => "stalled",
            FailureKind::Interrupted => "interrupted",
            FailureKind::Internal => "internal",
        }
    }
}

/// The maximum length of a message in bytes. Messages quote names and values of files and servers,
/// which may have any length; the important part of a message is in its first lines.
const MAX_MESSAGE_BYTES: usize = 4096;

impl Failure {
    /// Creates a failure of `kind` in `stage`, with a shortened message if it is too long.
    pub fn new(
        stage: Stage,
        kind: FailureKind,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Failure {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            let rest = message.split_off(message.floor_char_boundary(MAX_MESSAGE_BYTES));
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
    fn a_long_message_is_shortened() {
        let of = |message: String| {
            Failure::new(Stage::Load, FailureKind::Corrupt, message, "download the file again")
                .message
        };
        assert_eq!(of("x".repeat(4096)), "x".repeat(4096));
        let long = of("\u{e9}".repeat(1 << 20));
        assert!(long.len() < 4200 && long.ends_with("2093056 bytes more"), "{}", &long[4000..]);
    }
}

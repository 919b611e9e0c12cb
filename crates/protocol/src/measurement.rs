//! What was seen of one model in one run. Checks and reports read this and nothing else.
//!
//! Integers are bytes or counts, floats are seconds unless a field says otherwise, ratios are 0
//! to 1.

use crate::{DType, Failure, Finite};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that was seen of one model in one run. A crash keeps what was gathered up to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measurement {
    /// How far it came.
    pub outcome: Outcome,
    /// Why it came no further; none where the outcome is `measured`.
    pub failure: Option<Failure>,
    /// Who loaded it; none where no worker spoke.
    pub engine: Option<Engine>,
    /// `model_type` or `general.architecture`.
    pub architecture: Option<String>,
    /// The model in the words of a `config.json`: the file's own text, or what the worker made of
    /// GGUF metadata. Which tensors must be there follows from it.
    pub config: Option<String>,
    /// The commit that a hub revision resolved to.
    pub commit: Option<String>,
    /// Weights that were loaded.
    pub parameters: Option<u64>,
    /// Positions of the key/value cache.
    pub context: Option<u32>,
    /// Parts of the model that were loaded.
    pub parts: Vec<String>,
    /// Devices that it was to live on.
    pub requested_devices: Vec<String>,
    /// Devices that it lived on.
    pub devices: Vec<String>,
    /// Files it came from.
    pub files: Vec<FileSeen>,
    /// Bytes that were fetched in this run.
    pub downloaded_bytes: u64,
    /// What a reader should know of how the files were had, such as that the hub could not be asked.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Phases from spawn to reaping, contiguous, by the harness's monotonic clock.
    pub phases: Vec<Phase>,
    /// What was busy, which may overlap.
    pub activities: Vec<Activity>,
    /// What the hardware can do at most, measured by the same worker.
    pub ceilings: Vec<Ceiling>,
    /// The devices that were opened.
    pub devices_seen: Vec<DeviceSeen>,
    /// Seconds to turn the source into local files.
    pub acquire_s: Option<Finite>,
    /// Seconds from spawn until the last tensor was resident and synchronised; none where that
    /// never happened.
    pub load_s: Option<Finite>,
    /// What it took in memory.
    pub memory: Memory,
    /// Every tensor as it is resident.
    pub tensors: Tensors,
    /// Answers.
    pub generations: Vec<Generation>,
    /// Perplexity of the bundled or given text.
    pub perplexity: Option<Perplexity>,
    /// How well a prefix of the model on its device agrees with the same on the CPU; none where
    /// that was not compared.
    pub agreement: Option<Agreement>,
    /// How the worker's process ended; none where none was started.
    pub worker_exit: Option<WorkerExit>,
    /// The last 64 KiB that the worker wrote to standard output and standard error.
    pub worker_stderr: String,
}

impl Measurement {
    /// Whether a part of the model was not loaded: its files hold more, or it is of a kind that has
    /// more in other files.
    pub fn is_partial(&self) -> bool {
        let architecture = self.architecture.as_deref().unwrap_or_default();
        !self.tensors.omitted.is_empty()
            || architecture == "qwen2vl"
            || architecture.starts_with("qwen2_5_omni")
    }

    /// A measurement in which nothing has been seen yet.
    pub fn empty() -> Measurement {
        Measurement {
            outcome: Outcome::NotRun,
            failure: None,
            engine: None,
            architecture: None,
            config: None,
            commit: None,
            parameters: None,
            context: None,
            parts: Vec::new(),
            requested_devices: Vec::new(),
            devices: Vec::new(),
            files: Vec::new(),
            downloaded_bytes: 0,
            notes: Vec::new(),
            phases: Vec::new(),
            activities: Vec::new(),
            ceilings: Vec::new(),
            devices_seen: Vec::new(),
            acquire_s: None,
            load_s: None,
            memory: Memory::default(),
            tensors: Tensors::default(),
            generations: Vec::new(),
            perplexity: None,
            agreement: None,
            worker_exit: None,
            worker_stderr: String::new(),
        }
    }
}

/// How far a measurement came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All that was asked was seen.
    Measured,
    /// The files could not be had.
    NotAcquired,
    /// The worker said that it cannot go on, or the harness refused to start it.
    Failed,
    /// The worker ended without a word.
    Crashed,
    /// It took too long, in all or without progress.
    DeadlineExceeded,
    /// A signal ended the run.
    Interrupted,
    /// It has not been tried yet.
    NotRun,
}

impl Outcome {
    /// The name as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Measured => "measured",
            Outcome::NotAcquired => "not_acquired",
            Outcome::Failed => "failed",
            Outcome::Crashed => "crashed",
            Outcome::DeadlineExceeded => "deadline_exceeded",
            Outcome::Interrupted => "interrupted",
            Outcome::NotRun => "not_run",
        }
    }
}

/// What loads and generates inside a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Engine {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// How it was built: profile and features.
    pub build: String,
    /// Compute capability that its kernels were built for, such as `9.0`; none without CUDA, or
    /// where they run on any.
    pub compute_capability: Option<String>,
    /// CUDA version that it was built with, such as `13.0`; none without CUDA.
    #[serde(default)]
    pub cuda: Option<String>,
}

/// A file that the model came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FileSeen {
    /// Name relative to the model's folder.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 in hexadecimal, where it is known.
    pub sha256: Option<String>,
    /// How the content was verified.
    pub verified: Verified,
    /// Part of the file that was in the page cache before it was read; none where the system does
    /// not say.
    pub page_cache_fraction: Option<Finite>,
}

/// How a file's content was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verified {
    /// Hashed in this run.
    Now,
    /// Hashed in an earlier run, and unchanged since by size, time and inode.
    Earlier,
    /// By its size alone.
    Size,
    /// Not at all: nothing is known to verify it against.
    No,
}

/// A stretch of the worker's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Seconds from spawn to its begin.
    pub start_s: Finite,
    /// Seconds from spawn to its end.
    pub end_s: Finite,
}

/// Something that kept a part of the machine busy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Activity {
    /// `read`, `copy`, `quantize`, `verify`, `prefill`, `decode`.
    pub name: String,
    /// Bytes that it moved or worked on.
    pub bytes: u64,
    /// Wall-clock seconds in which at least one thread was busy with it.
    pub busy_s: Finite,
    /// The most that the hardware could do, measured in the same run; none where it was not
    /// measured.
    #[serde(default)]
    pub ceiling_bytes_per_s: Option<Finite>,
}

impl Activity {
    /// Bytes per second while it was busy; none where that was no time at all.
    pub fn bytes_per_s(&self) -> Option<Finite> {
        Finite::new(self.bytes as f64 / self.busy_s.get())
    }

    /// What it reached of the ceiling, as a ratio; none where there is none.
    pub fn ceiling_fraction(&self) -> Option<Finite> {
        Finite::new(self.bytes_per_s()?.get() / self.ceiling_bytes_per_s?.get())
    }
}

/// What the hardware can do at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ceiling {
    /// What was measured: `page_cache_read`, `disk_read`, `pinned_copy`, `device_memory`.
    pub name: String,
    /// Where: `host`, or a device.
    pub device: String,
    /// Bytes per second.
    pub bytes_per_s: Finite,
}

/// A device that a worker has opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceSeen {
    /// Such as `cuda:0`.
    pub device: String,
    /// The device's UUID as the driver gives it: `GPU-` and 32 hexadecimal digits in five groups.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// Such as `9.0`.
    pub compute_capability: String,
    /// Its memory.
    pub total: u64,
    /// In use of it before the first weight, by all processes: what others have, and the worker's
    /// context, kernels and workspaces.
    pub baseline: u64,
    /// Whether the driver had compiled the kernels before; none where that cannot be told.
    pub kernels_cached: Option<bool>,
}

impl DeviceSeen {
    /// What the worker itself takes before the first weight, where `before` was in use when it
    /// started.
    pub fn own_baseline(&self, before: u64) -> u64 {
        self.baseline.saturating_sub(before)
    }
}

/// Memory of one device as a worker itself sees it. What its allocator reserves has exact marks;
/// what is taken outside of it (contexts, kernels, libraries, other processes) is sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolMemory {
    /// Such as `cuda:0`.
    pub device: String,
    /// The device's UUID.
    pub uuid: String,
    /// Reserved by the allocator now.
    pub reserved: u64,
    /// The most that it ever reserved.
    pub reserved_peak: u64,
    /// In use outside the allocator now, by all processes.
    pub outside: u64,
    /// The most of that among all samples.
    pub outside_peak: u64,
    /// The longest time between two samples, in seconds: what is taken outside the allocator for
    /// less can have been missed.
    pub longest_gap_s: Finite,
}

/// What a model took in memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// One entry a device.
    pub devices: Vec<DeviceMemory>,
    /// Memory of the worker's process on the host; none where no process was started.
    pub host: Option<HostMemory>,
    /// Predicted from the shapes before anything was loaded; none where the shapes are not known.
    pub prediction: Option<Prediction>,
    /// Samples over time.
    pub timeline: Timeline,
}

/// Device memory over a worker's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceMemory {
    /// Such as `cuda:0`.
    pub device: String,
    /// The device's UUID.
    pub uuid: String,
    /// In use before the worker started.
    pub before: u64,
    /// The worker's use after the last tensor was resident; 0 where that never happened.
    pub after_load: u64,
    /// The worker's highest use during the load.
    pub peak_load: u64,
    /// The worker's highest use: the most that its allocator reserved and the most that it took
    /// outside of it.
    pub peak: u64,
    /// How the peaks were had.
    pub peak_source: PeakSource,
    /// In use after the worker's end, less what other processes took since its start; none where
    /// it was not read.
    pub after_unload: Option<u64>,
    /// What was predicted for `peak`; none where the shapes are not known.
    pub predicted_peak: Option<u64>,
    /// The highest use of other processes while the worker lived, which is not in the figures
    /// above.
    pub foreign_peak: u64,
    /// Those processes that took more than they had when the worker started.
    #[serde(default)]
    pub foreign: Vec<ForeignProcess>,
    /// Whether the driver tells what the worker takes apart from others. Where it does not, the
    /// worker's use is what the device's use has grown by.
    #[serde(default)]
    pub per_process: bool,
    /// Why the figures may hold what other processes took; none where they do not.
    #[serde(default)]
    pub mixed: Option<String>,
    /// Memory that is taken outside the worker's allocator for less than this, in seconds, can have
    /// been missed; none where the peak is of samples alone.
    #[serde(default)]
    pub outside_gap_s: Option<Finite>,
    /// Samples that were taken from outside the worker.
    #[serde(default)]
    pub samples: u64,
    /// The longest time between two of them, in seconds.
    #[serde(default)]
    pub longest_gap_s: Option<Finite>,
}

/// Another process on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForeignProcess {
    /// Its process id, as the driver gives it.
    pub pid: u32,
    /// Its name; none where the system does not tell it.
    pub name: Option<String>,
    /// What it took beyond what it had when the worker started.
    pub bytes: u64,
}

/// How a peak was had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeakSource {
    /// From high-water marks that the allocator or the system keeps: exact for what goes through
    /// it. What a worker takes of a device outside its allocator is sampled all the same.
    Pool,
    /// From samples: a shorter spike can be missed.
    Samples,
}

/// Host memory of the worker's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostMemory {
    /// Private memory at the first sample.
    pub before: u64,
    /// Private memory when the last tensor was resident; none where that never happened.
    pub after_load: Option<u64>,
    /// The highest private memory: anonymous, shared and page-locked pages, without those of
    /// mapped files.
    pub peak_private: u64,
    /// How `peak_private` was had.
    pub peak_source: PeakSource,
    /// The highest resident set that the system saw (`VmHWM`), mapped files included.
    pub peak_rss: u64,
    /// What was predicted for `peak_private`; none where the shapes are not known.
    pub predicted_peak: Option<u64>,
    /// The highest use of the control group that the worker runs in, its other processes and page
    /// cache included; none where the system keeps no such mark.
    pub cgroup_peak: Option<u64>,
    /// Samples that were taken.
    pub samples: u64,
    /// The longest time between two of them, in seconds.
    pub longest_gap_s: Finite,
}

/// What the shapes say before anything is loaded. Sums of these are the predicted peaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// Weights in their resident types.
    pub weights: u64,
    /// Key/value cache for the context asked for.
    pub kv_cache: u64,
    /// Activations and staging buffers at their largest.
    pub activations: u64,
    /// What a worker takes on the host before its first weight.
    pub baseline: u64,
    /// What it takes on all devices before its first weight, as the worker itself measured it; none
    /// before it has, and for a model on the CPU.
    #[serde(default)]
    pub device_baseline: Option<u64>,
    /// The sum on the host.
    pub host_peak: u64,
    /// The sum over devices other than the host; 0 for a model on the CPU.
    pub device_peak: u64,
    /// Bytes that the source's files take.
    #[serde(default)]
    pub disk: u64,
}

/// Memory over time, at most 2,000 points, extremes kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// Seconds from spawn.
    pub t_s: Vec<Finite>,
    /// Bytes, one series a name, each as long as `t_s`.
    pub series: BTreeMap<String, Vec<u64>>,
}

/// The tensor inventory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tensors {
    /// 8 times the resident bytes over the number of weights; none where nothing is resident.
    pub bits_per_weight: Option<Finite>,
    /// Resident bytes by type.
    pub by_type: BTreeMap<String, u64>,
    /// Every resident tensor.
    pub list: Vec<Tensor>,
    /// What the files hold and the engine knowingly left out.
    pub omitted: Vec<Omitted>,
}

/// One tensor as it is resident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// The file it came from, relative to the model's folder.
    pub file: String,
    /// Its shape, rows first.
    pub shape: Vec<u64>,
    /// Its type in the file.
    pub source_dtype: DType,
    /// Its type as it is resident, asked of the resident storage.
    pub dtype: DType,
    /// Bytes of the resident storage.
    pub bytes: u64,
    /// Where it is.
    pub device: String,
    /// Normalised mean squared error of the resident values against the source's: sum of squared
    /// differences over sum of squares, 0 where both are zero. None where nothing was converted.
    pub nmse: Option<Finite>,
    /// The same of the worst part of about a megabyte, since one wrong row is lost in the mean over
    /// a large tensor; none where the engine does not tell it.
    #[serde(default)]
    pub worst_nmse: Option<Finite>,
    /// NaN and infinite values in the source.
    pub nonfinite: u64,
    /// Its role in the quantization rule: `linear`, `expert`, `embedding`, `output`, `norm`,
    /// `bias`, `router`, `convolution`, `other`.
    pub rule: String,
    /// Why the scheme did not quantize it; none where it did, or had nothing to.
    pub reason: Option<String>,
}

impl Tensor {
    /// Number of values; saturates where the product of the sizes is beyond 64 bits.
    pub fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |product: u64, size| product.saturating_mul(*size))
    }
}

/// Tensors that are knowingly left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Omitted {
    /// What they are.
    pub group: String,
    /// How many.
    pub tensors: u64,
    /// Their bytes in the files.
    pub bytes: u64,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Generation {
    /// Its name in the request.
    pub name: String,
    /// The prompt as the chat template rendered it.
    pub inputs: Vec<String>,
    /// Token ids of the prompt.
    pub prompt_tokens: Vec<u32>,
    /// Token ids of the answer, a stop token included.
    pub tokens: Vec<u32>,
    /// The answer as text, special tokens left out. Bytes that are not UTF-8 show as U+FFFD.
    pub text: String,
    /// Natural logarithm of the probability of each chosen token; null where it is not finite.
    pub logprobs: Vec<Option<Finite>>,
    /// NaN and infinite values among all logits of all steps.
    pub nonfinite_logits: u64,
    /// Seconds from the prompt's first token in to the answer's first token out.
    pub time_to_first_token_s: Option<Finite>,
    /// Tokens per second after the first; none where there are fewer than two.
    pub decode_tokens_per_s: Option<Finite>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Whether a second generation of the same prompt gave the same tokens.
    pub repeated_identically: bool,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token.
    Stop,
    /// The limit on tokens.
    Length,
}

/// How surprised the model is by a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Perplexity {
    /// SHA-256 of the text, in hexadecimal.
    pub text_sha256: String,
    /// Tokens that were predicted.
    pub tokens: u64,
    /// exp of the mean negative log likelihood; null where it is not finite.
    pub value: Option<Finite>,
}

/// How well the first layers of a model on its device agree with the same layers on the CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Agreement {
    /// Layers that were compared.
    pub layers: u32,
    /// Tokens that went through them.
    pub tokens: u32,
    /// Norm of the difference of a token's logits over the norm of the CPU's: the largest, and of a
    /// mixture of experts what three quarters of the tokens have at most, since a router may be about
    /// to choose either of two experts. Null where it is not finite.
    pub relative_error: Option<Finite>,
}

/// How the worker's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerExit {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the harness had to kill it.
    pub killed_by_harness: bool,
}

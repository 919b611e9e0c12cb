//! The names of all environment variables that modelgate reads. Those of the Hugging Face tools are
//! re-exported from the hub crate and mean what they mean there.

pub use modelgate_hub::variables::{
    CACHES, HF_ENDPOINT, HF_HOME, HF_HUB_DISABLE_IMPLICIT_TOKEN, HF_HUB_DOWNLOAD_TIMEOUT,
    HF_TOKEN_PATH, HOME, HUB_RETRIES, OFFLINE, TOKENS, XDG_CACHE_HOME,
};

/// The path of a manifest that replaces the default one.
pub const MANIFEST: &str = "MODELGATE_MANIFEST";
/// The folder that reports go to.
pub const REPORT_DIR: &str = "MODELGATE_REPORT_DIR";
/// What the device `auto` means: `cpu` or `cuda:N`.
pub const DEVICE: &str = "MODELGATE_DEVICE";
/// What a worker may take of each GPU's memory, such as `20GB`.
pub const VRAM_LIMIT: &str = "MODELGATE_VRAM_LIMIT";
/// The path of a worker that was built elsewhere.
pub const WORKER: &str = "MODELGATE_WORKER";
/// [`NEVER`]: do not build a worker with CUDA.
pub const BUILD: &str = "MODELGATE_BUILD";
/// The one value of [`BUILD`].
pub const NEVER: &str = "never";
/// Which GPUs are visible and in which order, as CUDA defines it.
pub const CUDA_VISIBLE_DEVICES: &str = "CUDA_VISIBLE_DEVICES";
/// Set by continuous-integration services: a filter that selects nothing is then a failure.
pub const CI: &str = "CI";
/// Set: no colours.
pub const NO_COLOR: &str = "NO_COLOR";
/// The id of the nextest run that this process is part of.
pub const NEXTEST_RUN_ID: &str = "NEXTEST_RUN_ID";
/// The number of the nextest attempt; 1 for the first.
pub const NEXTEST_ATTEMPT: &str = "NEXTEST_ATTEMPT";
/// The path of the worker that nextest built.
pub const NEXTEST_WORKER: [&str; 2] =
    ["NEXTEST_BIN_EXE_modelgate_worker", "NEXTEST_BIN_EXE_modelgate-worker"];
/// The path of the worker that cargo built.
pub const CARGO_WORKER: &str = "CARGO_BIN_EXE_modelgate-worker";
/// The package's folder, set by cargo and nextest while tests run.
pub const CARGO_MANIFEST_DIR: &str = "CARGO_MANIFEST_DIR";
/// The cargo that runs the tests, set by it.
pub const CARGO: &str = "CARGO";
/// The folders in which programs are looked up.
pub const PATH: &str = "PATH";
/// CUDA's compiler, as the kernels' build scripts read it.
pub const NVCC: &str = "NVCC";
/// Folders of a CUDA toolkit.
pub const CUDA_FOLDERS: [&str; 2] = ["CUDA_HOME", "CUDA_PATH"];
/// The compute capability that kernels are built for, such as `90`; set for the build alone.
pub const CUDA_COMPUTE_CAP: &str = "CUDA_COMPUTE_CAP";
/// The folders in which the linker looks up libraries.
pub const LIBRARY_PATH: &str = "LIBRARY_PATH";
/// The folders in which programs look up libraries as they start.
pub const LD_LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

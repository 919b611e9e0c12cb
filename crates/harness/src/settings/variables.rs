//! The names of all environment variables that modelgate reads. The variables of the Hugging Face
//! tools are re-exported from the hub crate and have the same meaning as there.

pub use modelgate_hub::variables::{
    CACHES, HF_ENDPOINT, HF_HOME, HF_HUB_DISABLE_IMPLICIT_TOKEN, HF_HUB_DISABLE_SYMLINKS,
    HF_HUB_DOWNLOAD_TIMEOUT, HF_TOKEN_PATH, HOME, HUB_RETRIES, OFFLINE, TOKENS, XDG_CACHE_HOME,
};

/// The path of a manifest that replaces the default one.
pub const MANIFEST: &str = "MODELGATE_MANIFEST";
/// The folder to which reports are written.
pub const REPORT_DIR: &str = "MODELGATE_REPORT_DIR";
/// The device for `device = "auto"`: `cpu` or `cuda:N`. If it is not set, the size of each model
/// decides.
pub const DEVICE: &str = "MODELGATE_DEVICE";
/// The maximum device memory that a worker may use on each GPU, for example `20GB`.
pub const VRAM_LIMIT: &str = "MODELGATE_VRAM_LIMIT";
/// The path of a worker program that replaces the built one.
pub const WORKER: &str = "MODELGATE_WORKER";
/// If set to `never`: do not build a worker with CUDA.
pub const BUILD: &str = "MODELGATE_BUILD";
/// The only value of [`BUILD`].
pub const NEVER: &str = "never";
/// The visible GPUs and their order, as defined by CUDA.
pub const CUDA_VISIBLE_DEVICES: &str = "CUDA_VISIBLE_DEVICES";
/// Set by services for continuous integration: a filter that selects nothing is then a failure.
pub const CI: &str = "CI";
/// If set: no colours.
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
/// The folder of the package, set by cargo and nextest while tests run.
pub const CARGO_MANIFEST_DIR: &str = "CARGO_MANIFEST_DIR";
/// The cargo program that runs the tests.
pub const CARGO: &str = "CARGO";
/// The folders in which the operating system searches for programs.
pub const PATH: &str = "PATH";
/// The CUDA compiler, as the build scripts of the kernels read it.
pub const NVCC: &str = "NVCC";
/// The folder of a CUDA toolkit.
pub const CUDA_FOLDERS: [&str; 2] = ["CUDA_HOME", "CUDA_PATH"];
/// The compute capability for which kernels are built, for example `90`. Set only for the build.
pub const CUDA_COMPUTE_CAP: &str = "CUDA_COMPUTE_CAP";
/// The folders in which the linker searches for libraries.
pub const LIBRARY_PATH: &str = "LIBRARY_PATH";
/// The folders in which programs search for libraries at their start.
pub const LD_LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

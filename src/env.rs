//! Every environment variable that modelgate reads, and nothing else. Read once, at the start.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Another manifest (a path).
pub const MANIFEST: &str = "MODELGATE_MANIFEST";
/// The folder that reports go to.
pub const REPORT_DIR: &str = "MODELGATE_REPORT_DIR";
/// What the device `auto` means: `cpu` or `cuda:N`.
pub const DEVICE: &str = "MODELGATE_DEVICE";
/// What a worker may take of each GPU's memory, such as `20GB`.
pub const VRAM_LIMIT: &str = "MODELGATE_VRAM_LIMIT";
/// A worker built elsewhere.
pub const WORKER: &str = "MODELGATE_WORKER";
/// [`NEVER`]: do not build a worker with CUDA.
pub const BUILD: &str = "MODELGATE_BUILD";
/// The one value of [`BUILD`].
pub const NEVER: &str = "never";
/// Which GPUs there are and in which order, as CUDA means it.
pub const CUDA_VISIBLE_DEVICES: &str = "CUDA_VISIBLE_DEVICES";
/// Set by continuous-integration services: a filter that selects nothing is then a failure.
pub const CI: &str = "CI";
/// Set: no colours.
pub const NO_COLOR: &str = "NO_COLOR";
/// The run that this process is part of, under nextest.
pub const NEXTEST_RUN_ID: &str = "NEXTEST_RUN_ID";
/// Which attempt this is, under nextest; 1 for the first.
pub const NEXTEST_ATTEMPT: &str = "NEXTEST_ATTEMPT";
/// Where nextest says that the worker is.
pub const NEXTEST_WORKER: [&str; 2] =
    ["NEXTEST_BIN_EXE_modelgate_worker", "NEXTEST_BIN_EXE_modelgate-worker"];
/// Where cargo says that the worker is.
pub const CARGO_WORKER: &str = "CARGO_BIN_EXE_modelgate-worker";
/// The package's folder, set by cargo and nextest while tests run.
pub const CARGO_MANIFEST_DIR: &str = "CARGO_MANIFEST_DIR";
/// The cargo that runs the tests, set by it.
pub const CARGO: &str = "CARGO";
/// Where programs are looked for.
pub const PATH: &str = "PATH";
/// CUDA's compiler, as the kernels' build scripts mean it.
pub const NVCC: &str = "NVCC";
/// Folders of a CUDA toolkit.
pub const CUDA_FOLDERS: [&str; 2] = ["CUDA_HOME", "CUDA_PATH"];
/// The compute capability that kernels are built for, such as `90`; set for the build alone.
pub const CUDA_COMPUTE_CAP: &str = "CUDA_COMPUTE_CAP";
/// Where the linker looks for libraries.
pub const LIBRARY_PATH: &str = "LIBRARY_PATH";
/// Where programs look for libraries as they start.
pub const LD_LIBRARY_PATH: &str = "LD_LIBRARY_PATH";
/// The user's folder for what can be made again.
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
/// The user's folder.
pub const HOME: &str = "HOME";

/// The token for the hub, by the names that its tools have given it over time.
pub const TOKENS: [&str; 3] = ["HF_TOKEN", "HUGGINGFACE_HUB_TOKEN", "HUGGING_FACE_HUB_TOKEN"];
/// A file that holds the token.
pub const HF_TOKEN_PATH: &str = "HF_TOKEN_PATH";
/// Set: no token is used.
pub const HF_HUB_DISABLE_IMPLICIT_TOKEN: &str = "HF_HUB_DISABLE_IMPLICIT_TOKEN";
/// The folder of the Hugging Face tools: their token, and the cache in `hub`.
pub const HF_HOME: &str = "HF_HOME";
/// The hub's cache, by its name and an older one.
pub const CACHES: [&str; 2] = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"];
/// Set to `1`: the hub is not asked.
pub const OFFLINE: [&str; 2] = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
/// The hub's address.
pub const HF_ENDPOINT: &str = "HF_ENDPOINT";
/// Seconds without a byte after which a request to the hub has failed.
pub const HF_HUB_DOWNLOAD_TIMEOUT: &str = "HF_HUB_DOWNLOAD_TIMEOUT";
/// How often a request to the hub is tried again while nothing comes of it.
pub const HUB_RETRIES: &str = "MODELGATE_HUB_RETRIES";

/// Shorter values are no tokens, and may stand in others by chance.
const SHORTEST_TOKEN: usize = 8;

/// All variables of a process, for the programs that it starts.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<OsString, OsString>);

impl Variables {
    /// Those of this process.
    pub fn from_process() -> Variables {
        Variables(std::env::vars_os().collect())
    }

    /// The value of `name`, where it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The path that `name` is, with `~`, `$NAME` and `${NAME}` in it expanded as the Hugging Face
    /// tools do it: where no shell has seen a value, as in a container's description, they stand there.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.get(name)?;
        let Some(text) = value.to_str() else {
            return Some(PathBuf::from(value));
        };
        let of = |name: &str| self.get(name).and_then(OsStr::to_str);
        let home = || of(HOME);
        Some(PathBuf::from(&*shellexpand::full_with_context_no_errors(text, home, of)))
    }

    /// Sets `name`.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.insert(name.into(), value.into());
    }

    /// Removes those whose name `unwanted` picks.
    pub fn remove(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| !name.to_str().is_some_and(&unwanted));
    }

    /// The names of those that hold a token of the hub, under whatever name: programs that are
    /// started have no business with it.
    pub fn secret_names(&self) -> Vec<OsString> {
        let tokens = TOKENS.iter().filter_map(|name| self.get(name));
        let tokens: Vec<&[u8]> = tokens
            .map(|token| token.as_encoded_bytes().trim_ascii())
            .filter(|token| token.len() >= SHORTEST_TOKEN)
            .collect();
        let has_token = |value: &OsStr| {
            let value = value.as_encoded_bytes();
            tokens.iter().any(|token| value.windows(token.len()).any(|part| part == *token))
        };
        let is_secret = |name: &OsStr, value: &OsStr| {
            TOKENS.iter().any(|token| name == *token) || has_token(value)
        };
        let secrets = self.iter().filter(|(name, value)| is_secret(name, value));
        secrets.map(|(name, _)| name.clone()).collect()
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.0.iter()
    }
}

impl std::fmt::Debug for Variables {
    /// Names alone: among the values are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Whether `value` is one that the Hugging Face tools take for a yes.
pub fn is_true(value: &OsStr) -> bool {
    let text = value.to_string_lossy().to_uppercase();
    ["1", "ON", "YES", "TRUE"].contains(&text.as_str())
}

/// What the environment asks for.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// [`MANIFEST`].
    pub manifest: Option<PathBuf>,
    /// [`REPORT_DIR`].
    pub report_dir: Option<PathBuf>,
    /// [`DEVICE`].
    pub device: Option<OsString>,
    /// [`VRAM_LIMIT`].
    pub vram_limit: Option<OsString>,
    /// [`CUDA_VISIBLE_DEVICES`]; the empty text, which hides every GPU, is not the same as none.
    pub visible_devices: Option<String>,
    /// [`WORKER`].
    pub worker: Option<PathBuf>,
    /// [`BUILD`].
    pub build: Option<OsString>,
    /// [`CI`] is set, and neither empty nor `false`.
    pub ci: bool,
    /// [`NO_COLOR`] is set.
    pub no_color: bool,
    /// [`NEXTEST_RUN_ID`].
    pub nextest_run_id: Option<String>,
    /// [`NEXTEST_ATTEMPT`].
    pub attempt: u32,
    /// Where the build tools say that the worker is.
    pub built_worker: Option<PathBuf>,
    /// The folder that the default report folder is in.
    pub package_dir: Option<PathBuf>,
    /// All of it, for a build that is started.
    pub variables: Variables,
}

impl Environment {
    /// Reads the process's environment.
    pub fn from_process() -> Environment {
        let variables = Variables::from_process();
        let set = |name: &str| variables.get(name).map(OsStr::to_owned);
        Environment {
            manifest: set(MANIFEST).map(PathBuf::from),
            report_dir: set(REPORT_DIR).map(PathBuf::from),
            device: set(DEVICE),
            vram_limit: set(VRAM_LIMIT),
            visible_devices: std::env::var_os(CUDA_VISIBLE_DEVICES)
                .map(|value| value.to_string_lossy().into_owned()),
            worker: set(WORKER).map(PathBuf::from),
            build: set(BUILD),
            ci: set(CI).is_some_and(|value| value != "false" && value != "0"),
            no_color: set(NO_COLOR).is_some(),
            nextest_run_id: set(NEXTEST_RUN_ID).and_then(|id| id.into_string().ok()),
            attempt: set(NEXTEST_ATTEMPT)
                .and_then(|n| n.to_str().and_then(|n| n.parse().ok()))
                .unwrap_or(1),
            built_worker: NEXTEST_WORKER
                .iter()
                .find_map(|name| set(name))
                .or_else(|| set(CARGO_WORKER))
                .map(PathBuf::from),
            package_dir: set(CARGO_MANIFEST_DIR).map(PathBuf::from),
            variables,
        }
    }
}

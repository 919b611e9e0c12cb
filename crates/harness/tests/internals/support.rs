//! Settings for tests, which are independent of most environment variables.

use modelgate_harness::settings::{Environment, Settings};
use modelgate_hub::Variables;
use std::path::{Path, PathBuf};

/// Returns settings with the worker `worker` and without access to the hub. Only `PATH` and `HOME`
/// come from the environment.
pub(crate) fn settings(worker: &Path) -> Settings {
    let mut variables = Variables::default();
    for name in ["PATH", "HOME"] {
        variables.set(name, std::env::var_os(name).unwrap_or_default());
    }
    variables.set("MODELGATE_WORKER", worker);
    variables.set("HF_HUB_OFFLINE", "1");
    let environment =
        Environment { variables, exe: PathBuf::from("modelgate"), temp_dir: std::env::temp_dir() };
    Settings::resolve(&environment).expect("valid settings")
}

//! Settings of a run that takes nothing from the process's environment but its variables.

use modelgate_harness::settings::{Environment, Settings};
use modelgate_hub::Variables;
use std::path::{Path, PathBuf};

/// Settings with that worker.
pub(crate) fn settings(worker: &Path) -> Settings {
    let mut variables = Variables::default();
    for name in ["PATH", "HOME"] {
        variables.set(name, std::env::var_os(name).unwrap_or_default());
    }
    variables.set("MODELGATE_WORKER", worker);
    variables.set("HF_HUB_OFFLINE", "1");
    let environment =
        Environment { variables, exe: PathBuf::from("modelgate"), temp_dir: std::env::temp_dir() };
    Settings::resolve(&environment).expect("sound settings")
}

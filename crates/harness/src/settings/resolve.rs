//! Resolves the environment to settings. Each variable is interpreted here, once.

use super::build_folders;
use super::variables as names;
use super::{Environment, SettingsError};
use modelgate_hub::Variables;
use modelgate_model::units::parse_bytes;
use modelgate_protocol::Device;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of the CUDA toolkit that is used if the variables name none.
const DEFAULT_TOOLKIT: &str = "/usr/local/cuda";
/// The file name of the worker.
const WORKER: &str = "modelgate-worker";

/// The input of a run, without its command line.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The path of the manifest. `None` for the embedded one.
    pub manifest: Option<PathBuf>,
    /// The folder for reports. `None` if the user names none.
    pub report_dir: Option<PathBuf>,
    /// The device for `auto`. `None` if the size of each model decides.
    pub device: Option<Device>,
    /// The maximum bytes that a worker may use on each GPU. `None` without a limit.
    pub vram_limit: Option<u64>,
    /// The value of `CUDA_VISIBLE_DEVICES`. The empty text, which hides every GPU, differs from
    /// `None`.
    pub visible_devices: Option<String>,
    /// Whether a service for continuous integration (CI) runs this process.
    pub ci: bool,
    /// Whether colours are disabled.
    pub no_color: bool,
    /// The id of the nextest run. `None` if this process is not part of one.
    pub nextest_run_id: Option<String>,
    /// The number of the attempt of the test runner; 1 for the first.
    pub attempt: u32,
    /// The folder that contains the default report folder.
    pub package_dir: PathBuf,
    /// The folder of the operating system for temporary files.
    pub temp_dir: PathBuf,
    /// The worker programs.
    pub worker: WorkerSettings,
    /// The inputs of a build of a worker with CUDA.
    pub build: BuildSettings,
    /// The hub, its cache and its token. An error concerns only runs that need the hub.
    pub hub: Result<Arc<modelgate_hub::Settings>, SettingsError>,
}

/// The worker programs.
#[derive(Debug, Clone, Default)]
pub struct WorkerSettings {
    /// The program that the user names. `None` if the user names none.
    pub named: Option<PathBuf>,
    /// Possible paths of the program that was built with this one, in the order of preference.
    pub built: Vec<PathBuf>,
    /// The variables that workers inherit, without those that contain a token.
    pub variables: Variables,
}

/// The inputs of a build of a worker with CUDA.
#[derive(Debug, Clone, Default)]
pub struct BuildSettings {
    /// Whether building is forbidden. A worker that was built before may be used.
    pub never: bool,
    /// The folder of the sources. `None` if they are not on this host.
    pub sources: Option<PathBuf>,
    /// Folders for builds, in the order of preference.
    pub folders: Vec<PathBuf>,
    /// The folder of the CUDA toolkit that is used if the variables name none.
    pub toolkit: PathBuf,
    /// The environment variables of this process.
    pub variables: Variables,
}

impl Settings {
    /// Resolves `environment` to settings.
    ///
    /// # Errors
    /// A variable has an unusable value.
    pub fn resolve(environment: &Environment) -> Result<Settings, SettingsError> {
        let variables = &environment.variables;
        let text = |name: &str| variables.get(name).map(OsStr::to_owned);
        let path = |name: &str| text(name).map(PathBuf::from);
        modelgate_hub::Settings::check(variables)?;
        let hub = modelgate_hub::Settings::resolve(variables, &environment.temp_dir);
        let package_dir = path(names::CARGO_MANIFEST_DIR);
        Ok(Settings {
            manifest: path(names::MANIFEST),
            report_dir: path(names::REPORT_DIR),
            device: device(variables)?,
            vram_limit: vram_limit(variables)?,
            visible_devices: variables
                .get_even_empty(names::CUDA_VISIBLE_DEVICES)
                .map(|value| value.to_string_lossy().into_owned()),
            ci: text(names::CI).is_some_and(|value| value != "false" && value != "0"),
            no_color: text(names::NO_COLOR).is_some(),
            nextest_run_id: text(names::NEXTEST_RUN_ID).and_then(|id| id.into_string().ok()),
            attempt: text(names::NEXTEST_ATTEMPT)
                .and_then(|n| n.to_str().and_then(|n| n.parse().ok()))
                .unwrap_or(1),
            worker: worker_settings(environment),
            build: BuildSettings {
                never: is_building_forbidden(variables)?,
                sources: build_folders::sources(package_dir.as_deref(), &environment.exe),
                folders: build_folders::folders(package_dir.as_deref(), environment),
                toolkit: DEFAULT_TOOLKIT.into(),
                variables: variables.clone(),
            },
            package_dir: package_dir.unwrap_or_else(|| PathBuf::from(".")),
            temp_dir: environment.temp_dir.clone(),
            hub: hub.map(Arc::new).map_err(SettingsError::from),
        })
    }
}

fn device(variables: &Variables) -> Result<Option<Device>, SettingsError> {
    let Some(value) = variables.get(names::DEVICE) else {
        return Ok(None);
    };
    let error = |source| SettingsError::Device { value: value.display().to_string(), source };
    let name = value.to_str().ok_or_else(|| error(None))?;
    name.parse().map(Some).map_err(|source| error(Some(source)))
}

fn vram_limit(variables: &Variables) -> Result<Option<u64>, SettingsError> {
    let value = variables.get(names::VRAM_LIMIT);
    let limit = value.map(|value| parse_bytes(&value.to_string_lossy())).transpose();
    limit.map_err(SettingsError::VramLimit)
}

fn is_building_forbidden(variables: &Variables) -> Result<bool, SettingsError> {
    match variables.get(names::BUILD) {
        None => Ok(false),
        Some(value) if value == names::NEVER => Ok(true),
        Some(value) => Err(SettingsError::Build(value.display().to_string())),
    }
}

/// Returns the worker that the user names, and the possible paths of the worker that was built with
/// this program: those that nextest or cargo report, otherwise in the folder of the program or
/// above it.
fn worker_settings(environment: &Environment) -> WorkerSettings {
    let variables = &environment.variables;
    let path = |name: &str| variables.get(name).map(PathBuf::from);
    let reported = names::NEXTEST_WORKER.iter().find_map(|name| path(name));
    let reported = reported.or_else(|| path(names::CARGO_WORKER));
    let folders = environment.exe.ancestors().skip(1).take(2).map(Path::to_owned);
    let secrets = variables.secret_names();
    let mut inherited = variables.clone();
    inherited.remove(|name| secrets.iter().any(|secret| secret == name));
    WorkerSettings {
        named: path(names::WORKER),
        built: reported.into_iter().chain(folders.map(|folder| folder.join(WORKER))).collect(),
        variables: inherited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(values: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let mut environment = Environment::default();
        for (name, value) in values {
            environment.variables.set(name, *value);
        }
        Settings::resolve(&environment)
    }

    #[test]
    fn unusable_values_are_refused_with_the_variable() {
        for (name, value, expected) in [
            (names::DEVICE, "gpu", "MODELGATE_DEVICE=gpu: unknown device"),
            (names::VRAM_LIMIT, "much", "MODELGATE_VRAM_LIMIT: \"much\" is not a size"),
            (names::BUILD, "off", "MODELGATE_BUILD=off: unknown value"),
            (names::HF_ENDPOINT, "hub.example", "HF_ENDPOINT"),
        ] {
            let error = resolve(&[(name, value)]).expect_err(name);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!error.hint().is_empty());
        }
    }

    #[test]
    fn an_empty_list_of_visible_devices_hides_all_devices() {
        let visible = |values: &[(&str, &str)]| resolve(values).expect("settings").visible_devices;
        assert_eq!(visible(&[]), None);
        assert_eq!(visible(&[(names::CUDA_VISIBLE_DEVICES, "")]), Some(String::new()));
    }

    #[test]
    fn workers_do_not_inherit_tokens() {
        let token = "hf_0123456789";
        let settings = resolve(&[
            ("HF_TOKEN", token),
            ("ANOTHER_NAME", "https://me:hf_0123456789@hub"),
            ("HOME", "/home/user"),
        ]);
        let inherited = settings.expect("settings").worker.variables;
        assert_eq!(inherited.get("HF_TOKEN"), None);
        assert_eq!(inherited.get("ANOTHER_NAME"), None);
        assert!(inherited.get("HOME").is_some());
    }

    #[test]
    fn a_malformed_token_concerns_only_runs_that_need_the_hub() {
        let settings = resolve(&[("HF_TOKEN", "no token")]).expect("settings");
        let error = settings.hub.expect_err("the token is malformed");
        assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    }
}

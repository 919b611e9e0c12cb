//! The settings for the access to a hub: its address, the token, the cache, timeout and retries.

use crate::token::{FoundToken, Token};
use crate::variables::{self, Variables, is_true};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// The address of the public hub.
const PUBLIC_ENDPOINT: &str = "https://huggingface.co";
/// The name of the folder of the Hugging Face tools in a folder for caches.
const TOOLS: &str = "huggingface";
/// The default timeout, that of huggingface_hub (`HF_HUB_DOWNLOAD_TIMEOUT`).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The default number of retries. The waits between them take about half a minute.
const DEFAULT_RETRIES: u32 = 5;

/// The settings for the access to a hub.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address of the hub, without user, password, query and fragment.
    pub endpoint: Url,
    token: FoundToken,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// Whether the cache may contain symlinks.
    pub(crate) symlinks: bool,
    /// Whether requests to the hub are forbidden.
    pub offline: bool,
    /// The maximum time without a received byte.
    pub timeout: Duration,
    /// The maximum number of retries of a request while no attempt makes progress.
    pub retries: u32,
}

/// An invalid setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SettingsError {
    /// The message, which names the invalid variable or token.
    pub message: String,
    /// How to fix it.
    pub hint: String,
}

impl Settings {
    /// Resolves the settings from `variables`. The cache is in `temp_dir` if they contain neither a
    /// cache folder nor a home folder.
    ///
    /// # Errors
    /// The value of a variable or the token is invalid.
    pub fn resolve(variables: &Variables, temp_dir: &Path) -> Result<Settings, SettingsError> {
        let plain = PlainValues::parse(variables)?;
        let own_folder = tools_folder(variables);
        // every user can write to the temporary folder, so that a token in it is not used
        let token_file = own_folder.as_ref().map(|folder| cache_of(folder).token_path());
        let folder = own_folder.unwrap_or_else(|| temp_dir.join(".cache").join(TOOLS));
        let default = cache_of(&folder);
        let cache = variables::CACHES.iter().find_map(|name| variables.path(name));
        let token = Token::find(variables, token_file.as_deref()).map_err(|message| {
            let hint = "copy the complete token from the settings of the hub; it begins with hf_";
            SettingsError { message, hint: hint.into() }
        })?;
        Ok(Settings {
            endpoint: plain.endpoint,
            token,
            cache: cache.unwrap_or_else(|| default.path().clone()),
            symlinks: !variables.get(variables::HF_HUB_DISABLE_SYMLINKS).is_some_and(is_true),
            // the first variable that is set decides, as in the Hugging Face tools
            offline: variables::OFFLINE
                .iter()
                .find_map(|name| variables.get(name))
                .is_some_and(is_true),
            timeout: plain.timeout,
            retries: plain.retries,
        })
    }

    /// Checks the values of the variables, without the token. Reads no file, because a run that
    /// does not need the hub must not fail because of an invalid token.
    ///
    /// # Errors
    /// The value of a variable is invalid.
    pub fn check(variables: &Variables) -> Result<(), SettingsError> {
        PlainValues::parse(variables).map(drop)
    }

    /// Returns the token. `None` if there is no token.
    pub(crate) fn token(&self) -> Option<&Token> {
        self.token.token.as_ref()
    }

    /// Returns the token file that was not read, because another user may have put it there.
    pub(crate) fn ignored_token_file(&self) -> Option<&Path> {
        self.token.ignored_file.as_deref()
    }

    /// Returns `text` with the token replaced by a placeholder.
    pub(crate) fn hide_token(&self, text: &str) -> String {
        self.token().map_or_else(|| text.to_owned(), |token| token.hide(text))
    }
}

/// The settings that depend only on the values of variables.
struct PlainValues {
    endpoint: Url,
    timeout: Duration,
    retries: u32,
}

impl PlainValues {
    fn parse(variables: &Variables) -> Result<PlainValues, SettingsError> {
        let timeout = number(variables, variables::HF_HUB_DOWNLOAD_TIMEOUT)?;
        let retries = number(variables, variables::HUB_RETRIES)?;
        Ok(PlainValues {
            endpoint: endpoint(variables.get(variables::HF_ENDPOINT))?,
            timeout: timeout.map_or(DEFAULT_TIMEOUT, |s| Duration::from_secs(s.max(1))),
            retries: retries.map_or(DEFAULT_RETRIES, |n| n.try_into().unwrap_or(u32::MAX)),
        })
    }
}

fn number(variables: &Variables, name: &str) -> Result<Option<u64>, SettingsError> {
    let Some(value) = variables.get(name) else {
        return Ok(None);
    };
    let number = value.to_str().and_then(|text| text.trim().parse().ok());
    number.map(Some).ok_or_else(|| {
        let message = format!("{name}: expected an integer, found \"{}\"", value.display());
        invalid_value(message, "set it to an integer, or unset it")
    })
}

/// Returns the folder of the Hugging Face tools. `None` if neither a variable nor the user database
/// names it.
fn tools_folder(variables: &Variables) -> Option<PathBuf> {
    let caches = || {
        let xdg = variables.path(variables::XDG_CACHE_HOME);
        xdg.or_else(|| variables.home().map(|home| home.join(".cache")))
    };
    variables.path(variables::HF_HOME).or_else(|| Some(caches()?.join(TOOLS)))
}

/// Returns the cache in the folder of the Hugging Face tools.
fn cache_of(tools_folder: &Path) -> hf_hub::Cache {
    hf_hub::Cache::new(tools_folder.join("hub"))
}

fn endpoint(value: Option<&OsStr>) -> Result<Url, SettingsError> {
    let text = value.map_or_else(|| PUBLIC_ENDPOINT.into(), OsStr::to_string_lossy);
    let invalid = || {
        // the message must not show the address, which may contain a password
        let message =
            format!("{}: expected the http or https address of a hub", variables::HF_ENDPOINT);
        invalid_value(message, "set it to an address such as https://huggingface.co, or unset it")
    };
    let mut url = Url::parse(text.trim().trim_end_matches('/')).map_err(|_| invalid())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(invalid());
    }
    url.set_query(None);
    url.set_fragment(None);
    // requests identify the user with the token
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| invalid())?;
    Ok(url)
}

fn invalid_value(message: String, hint: &str) -> SettingsError {
    SettingsError { message, hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(all: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let mut variables = Variables::default();
        for (name, value) in all {
            variables.set(name, *value);
        }
        Settings::resolve(&variables, Path::new("/tmp"))
    }

    #[test]
    fn the_cache_folder_is_that_of_the_hugging_face_tools() {
        let cache = |variables: &[(&str, &str)]| resolved(variables).expect("settings").cache;
        assert_eq!(cache(&[]), Path::new("/tmp/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(cache(&[("HOME", "/h"), xdg]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[xdg, ("HF_HOME", "/hf")]), Path::new("/hf/hub"));
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(cache(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/hf")]), Path::new("/hf/hub"));
        let (home, scratch) = (("HOME", "/h"), ("SCRATCH", "/s"));
        assert_eq!(cache(&[home, ("HF_HOME", "~/hf")]), Path::new("/h/hf/hub"));
        assert_eq!(cache(&[scratch, ("HF_HUB_CACHE", "$SCRATCH/c")]), Path::new("/s/c"));
    }

    #[test]
    fn a_token_in_the_temporary_folder_is_not_used() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join(".cache/huggingface");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("token"), "hf_planted").expect("written");
        let mut variables = Variables::default();
        let resolve = |variables: &Variables| {
            Settings::resolve(variables, temporary.path()).expect("settings")
        };
        let settings = resolve(&variables);
        assert_eq!(settings.cache, folder.join("hub"));
        assert!(settings.token().is_none(), "{settings:?}");
        variables.set("HOME", temporary.path());
        assert!(resolve(&variables).token().is_some(), "the same folder is now that of the user");
    }

    #[test]
    fn symlinks_can_be_disabled() {
        assert!(resolved(&[]).expect("settings").symlinks);
        let disabled = resolved(&[("HF_HUB_DISABLE_SYMLINKS", "1")]);
        assert!(!disabled.expect("settings").symlinks);
    }

    #[test]
    fn invalid_values_are_refused_with_the_name_of_the_variable() {
        for (name, value) in [
            ("HF_ENDPOINT", "hub.example"),
            ("HF_ENDPOINT", "ftp://hub.example"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"),
            ("MODELGATE_HUB_RETRIES", "-1"),
            ("HF_TOKEN", "two words"),
        ] {
            let error = resolved(&[(name, value)]).expect_err(name);
            assert!(error.message.contains(name) && !error.hint.is_empty(), "{error}");
        }
        let settings = resolved(&[("HF_ENDPOINT", "https://me:word@hub.example/hf/?a=b")]);
        assert_eq!(settings.expect("settings").endpoint.as_str(), "https://hub.example/hf/");
    }

    #[test]
    fn a_check_of_the_settings_ignores_the_token() {
        let mut variables = Variables::default();
        variables.set("HF_TOKEN", "two words");
        assert_eq!(Settings::check(&variables), Ok(()));
        variables.set("HF_ENDPOINT", "hub.example");
        assert!(Settings::check(&variables).is_err());
    }

    #[test]
    fn offline_values_are_those_of_the_hugging_face_tools() {
        for (value, offline) in [("1", true), ("true", true), ("ON", true), ("0", false)] {
            for name in variables::OFFLINE {
                let settings = resolved(&[(name, value)]).expect("settings");
                assert_eq!(settings.offline, offline, "{value}");
            }
        }
        let both = [("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")];
        assert!(!resolved(&both).expect("settings").offline);
    }
}

//! The environment variables that configure the access to a hub, and a snapshot of all variables of
//! a process.

use crate::user_database;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The variables with the token for the hub: the current name and two older ones.
pub const TOKENS: [&str; 3] = ["HF_TOKEN", "HUGGINGFACE_HUB_TOKEN", "HUGGING_FACE_HUB_TOKEN"];
/// The path of a file that contains the token.
pub const HF_TOKEN_PATH: &str = "HF_TOKEN_PATH";
/// If true, no token is used.
pub const HF_HUB_DISABLE_IMPLICIT_TOKEN: &str = "HF_HUB_DISABLE_IMPLICIT_TOKEN";
/// The folder of the Hugging Face tools, with their token and the cache in `hub`.
pub const HF_HOME: &str = "HF_HOME";
/// The folder of the cache: the current name and an older one.
pub const CACHES: [&str; 2] = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"];
/// If true, such as `1`, no request is sent to the hub.
pub const OFFLINE: [&str; 2] = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
/// The address of the hub.
pub const HF_ENDPOINT: &str = "HF_ENDPOINT";
/// The time in seconds without a received byte after which a request to the hub fails.
pub const HF_HUB_DOWNLOAD_TIMEOUT: &str = "HF_HUB_DOWNLOAD_TIMEOUT";
/// The number of retries of a request to the hub while no attempt makes progress.
pub const HUB_RETRIES: &str = "MODELGATE_HUB_RETRIES";
/// If true, the cache contains copies of the files instead of symlinks.
pub const HF_HUB_DISABLE_SYMLINKS: &str = "HF_HUB_DISABLE_SYMLINKS";
/// The folder of the user for data that can be recreated.
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
/// The home folder of the user. If it is not set, the user database of the system is read.
pub const HOME: &str = "HOME";

/// The minimum length of a token that is searched in other values. Shorter values may occur there
/// by chance.
const MIN_TOKEN_BYTES: usize = 8;

/// A snapshot of the environment variables of a process, and of the home folder of its user.
#[derive(Clone, Default)]
pub struct Variables {
    values: BTreeMap<OsString, OsString>,
    /// The home folder in the user database. `None` if the database was not read or has none.
    database_home: Option<PathBuf>,
}

impl Variables {
    /// Returns the variables of this process.
    pub fn from_process() -> Variables {
        let values: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let mut variables = Variables { values, database_home: None };
        // the database may be on the network
        if variables.get(HOME).is_none() {
            variables.database_home = user_database::home();
        }
        variables
    }

    /// Returns the home folder: that in `HOME`, otherwise that in the user database, which services
    /// and containers without `HOME` still have. `None` if both have none.
    pub fn home(&self) -> Option<PathBuf> {
        self.get(HOME).map(PathBuf::from).or_else(|| self.database_home.clone())
    }

    /// Returns the value of `name` if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.get_even_empty(name).filter(|value| !value.is_empty())
    }

    /// Returns the value of `name` if it is set, even if it is empty. For some variables, an empty
    /// value differs from a missing one.
    pub fn get_even_empty(&self, name: &str) -> Option<&OsStr> {
        self.values.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Returns the path in `name`. `~`, `$NAME` and `${NAME}` are expanded, as in the Hugging Face
    /// tools, because no shell expands them if the value comes from the description of a
    /// container.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.get(name)?;
        let Some(text) = value.to_str() else {
            return Some(PathBuf::from(value));
        };
        let text_of = |name: &str| self.get(name).and_then(OsStr::to_str);
        let home = || self.home().and_then(|home| home.into_os_string().into_string().ok());
        Some(PathBuf::from(&*shellexpand::full_with_context_no_errors(text, home, text_of)))
    }

    /// Sets the variable `name` in this snapshot.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.values.insert(name.into(), value.into());
    }

    /// Removes the variables for which `unwanted` returns true for the name.
    pub fn remove(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.values.retain(|name, _| !name.to_str().is_some_and(&unwanted));
    }

    /// Returns the names of all variables whose value contains a token of the hub, so that they can
    /// be removed from the environment of child processes.
    pub fn secret_names(&self) -> Vec<OsString> {
        let tokens = TOKENS.iter().filter_map(|name| self.get(name));
        let tokens: Vec<&[u8]> = tokens
            .map(|token| token.as_encoded_bytes().trim_ascii())
            .filter(|token| token.len() >= MIN_TOKEN_BYTES)
            .collect();
        let contains_token = |value: &OsStr| {
            let value = value.as_encoded_bytes();
            tokens.iter().any(|token| value.windows(token.len()).any(|part| part == *token))
        };
        let is_secret = |name: &OsStr, value: &OsStr| {
            TOKENS.iter().any(|token| name == *token) || contains_token(value)
        };
        let secrets = self.iter().filter(|(name, value)| is_secret(name, value));
        secrets.map(|(name, _)| name.clone()).collect()
    }

    /// Returns all names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.values.iter()
    }
}

impl std::fmt::Debug for Variables {
    /// Writes only the names, because some values are secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// Returns whether `value` means true for the Hugging Face tools.
pub fn is_true(value: &OsStr) -> bool {
    let text = value.to_string_lossy().to_uppercase();
    ["1", "ON", "YES", "TRUE"].contains(&text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn variables(all: &[(&str, &str)]) -> Variables {
        let mut variables = Variables::default();
        for (name, value) in all {
            variables.set(name, *value);
        }
        variables
    }

    #[test]
    fn secrets_are_found_in_variables_with_any_name() {
        let token = "hf_secretsecret";
        let remote = format!("https://me:{token}@hub");
        let all = [("HF_TOKEN", token), ("GIT_REMOTE", &remote), ("HOME", "/home/me")];
        let variables = variables(&all);
        assert_eq!(variables.secret_names(), ["GIT_REMOTE", "HF_TOKEN"]);
        assert!(!format!("{variables:?}").contains(token), "{variables:?}");
    }

    #[test]
    fn the_home_folder_is_that_in_the_user_database_if_home_is_not_set() {
        let database_home = Some(PathBuf::from("/home/database"));
        let mut variables = Variables { database_home, ..Variables::default() };
        variables.set("HF_HOME", "~/hf");
        for (home, expected) in
            [(None, "/home/database"), (Some(""), "/home/database"), (Some("/h"), "/h")]
        {
            if let Some(home) = home {
                variables.set("HOME", home);
            }
            assert_eq!(variables.home().as_deref(), Some(Path::new(expected)));
            let path = variables.path("HF_HOME").expect("a path");
            assert_eq!(path, Path::new(expected).join("hf"));
        }
        assert_eq!(Variables::default().home(), None);
    }

    #[test]
    fn a_short_token_is_not_searched_in_other_values() {
        let variables = variables(&[("HF_TOKEN", "a"), ("HOME", "/home/a")]);
        assert_eq!(variables.secret_names(), ["HF_TOKEN"]);
    }
}

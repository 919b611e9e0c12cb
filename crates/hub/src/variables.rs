//! The environment variables that configure the access to a hub, and a snapshot of all variables of a
//! process.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

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
/// Set to `1`: no request is sent to the hub.
pub const OFFLINE: [&str; 2] = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
/// The hub's address.
pub const HF_ENDPOINT: &str = "HF_ENDPOINT";
/// Seconds without a byte after which a request to the hub has failed.
pub const HF_HUB_DOWNLOAD_TIMEOUT: &str = "HF_HUB_DOWNLOAD_TIMEOUT";
/// How often a request to the hub is repeated while no attempt makes progress.
pub const HUB_RETRIES: &str = "MODELGATE_HUB_RETRIES";
/// The user's folder for data that can be recreated.
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
/// The user's folder.
pub const HOME: &str = "HOME";

/// Shorter values are not tokens, and may occur in other values by chance.
const MIN_TOKEN_BYTES: usize = 8;

/// A snapshot of the environment variables of a process.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<OsString, OsString>);

impl Variables {
    /// Returns the variables of this process.
    pub fn from_process() -> Variables {
        Variables(std::env::vars_os().collect())
    }

    /// Returns the value of `name` if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.get_even_empty(name).filter(|value| !value.is_empty())
    }

    /// Returns the value of `name` if it is set, also to nothing: for some variables, an empty value
    /// means something else than none.
    pub fn get_even_empty(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Returns the path in `name`. `~`, `$NAME` and `${NAME}` are expanded, as the Hugging Face tools do:
    /// they are still there when no shell has processed the value, as in the description of a
    /// container.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.get(name)?;
        let Some(text) = value.to_str() else {
            return Some(PathBuf::from(value));
        };
        let text_of = |name: &str| self.get(name).and_then(OsStr::to_str);
        let home = || text_of(HOME);
        Some(PathBuf::from(&*shellexpand::full_with_context_no_errors(text, home, text_of)))
    }

    /// Sets `name`.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.insert(name.into(), value.into());
    }

    /// Removes the variables for whose name `unwanted` is true.
    pub fn remove(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| !name.to_str().is_some_and(&unwanted));
    }

    /// Returns the names of the variables whose value contains a token of the hub, whatever the name:
    /// programs that are started do not need them.
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

    /// Returns names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.0.iter()
    }
}

impl std::fmt::Debug for Variables {
    /// Writes the names only: some values are secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Returns whether the Hugging Face tools take `value` for a yes.
pub fn is_true(value: &OsStr) -> bool {
    let text = value.to_string_lossy().to_uppercase();
    ["1", "ON", "YES", "TRUE"].contains(&text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(all: &[(&str, &str)]) -> Variables {
        let mut variables = Variables::default();
        for (name, value) in all {
            variables.set(name, *value);
        }
        variables
    }

    #[test]
    fn secrets_are_found_under_every_name() {
        let token = "hf_secretsecret";
        let remote = format!("https://me:{token}@hub");
        let all = [("HF_TOKEN", token), ("GIT_REMOTE", &remote), ("HOME", "/home/me")];
        let variables = variables(&all);
        assert_eq!(variables.secret_names(), ["GIT_REMOTE", "HF_TOKEN"]);
        assert!(!format!("{variables:?}").contains(token), "{variables:?}");
    }

    #[test]
    fn short_values_are_not_searched_in_other_values() {
        let variables = variables(&[("HF_TOKEN", "a"), ("HOME", "/home/a")]);
        assert_eq!(variables.secret_names(), ["HF_TOKEN"]);
    }
}

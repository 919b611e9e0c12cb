//! What the environment says of the hub: its address, the token, the cache, patience. Asks nobody and
//! knows no repository.

use super::token::Token;
use crate::env::{self, Variables};
use modelgate_protocol::{Failure, FailureKind, Stage};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// The hub's own address.
const PUBLIC: &str = "https://huggingface.co";
/// Where the environment names no other (`HF_HUB_DOWNLOAD_TIMEOUT` of huggingface_hub).
const TIMEOUT: Duration = Duration::from_secs(10);
/// Where the environment names no other: with the waits between them, half a minute.
const RETRIES: u32 = 5;

/// All that asking the hub depends on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the hub is; without user, password, query and trailing slash.
    pub(super) endpoint: Url,
    pub(super) token: Option<Token>,
    /// The cache's folder.
    pub(super) cache: PathBuf,
    /// The hub is not asked.
    pub(super) offline: bool,
    /// Without a byte.
    pub(super) timeout: Duration,
    /// Tries after the first, while nothing comes of any.
    pub(super) retries: u32,
}

impl Settings {
    /// What `variables` say.
    ///
    /// # Errors
    /// A value that cannot be meant.
    pub fn of(variables: &Variables) -> Result<Settings, Failure> {
        let home = home(variables);
        let cache = env::CACHES.iter().find_map(|name| variables.path(name));
        let (endpoint, timeout, retries) = plain(variables)?;
        Ok(Settings {
            endpoint,
            token: Token::find(variables, &home).map_err(|message| {
                let hint = "a token begins with hf_ and is copied whole from the hub's settings";
                Failure::new(Stage::Acquire, FailureKind::TokenRefused, message, hint)
            })?,
            cache: cache.unwrap_or_else(|| home.join("hub")),
            // the first that is set decides, as in the Hugging Face tools
            offline: env::OFFLINE
                .iter()
                .find_map(|name| variables.get(name))
                .is_some_and(env::is_true),
            timeout,
            retries,
        })
    }

    /// Whether the variables themselves can be meant. Reads no file: a run that asks no hub is not
    /// to fail of a token.
    ///
    /// # Errors
    /// A value that cannot be meant.
    pub fn check(variables: &Variables) -> Result<(), Failure> {
        plain(variables).map(drop)
    }

    /// `text` without the token.
    pub(super) fn hide(&self, text: &str) -> String {
        self.token.as_ref().map_or_else(|| text.to_owned(), |token| token.hide(text))
    }
}

/// Address, timeout and retries.
fn plain(variables: &Variables) -> Result<(Url, Duration, u32), Failure> {
    let number = |name: &str, otherwise: u64| match variables.get(name) {
        None => Ok(otherwise),
        Some(value) => value.to_str().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
            unusable(
                format!("{name}={}: no whole number", value.display()),
                "give a number, or unset it",
            )
        }),
    };
    let timeout = number(env::HF_HUB_DOWNLOAD_TIMEOUT, TIMEOUT.as_secs())?.max(1);
    let retries = number(env::HUB_RETRIES, RETRIES.into())?;
    Ok((
        endpoint(variables.get(env::HF_ENDPOINT))?,
        Duration::from_secs(timeout),
        retries.try_into().unwrap_or(u32::MAX),
    ))
}

/// The folder of the Hugging Face tools.
fn home(variables: &Variables) -> PathBuf {
    if let Some(home) = variables.path(env::HF_HOME) {
        return home;
    }
    let caches = variables.path(env::XDG_CACHE_HOME);
    let caches = caches.unwrap_or_else(|| {
        variables.get(env::HOME).map_or_else(std::env::temp_dir, PathBuf::from).join(".cache")
    });
    caches.join("huggingface")
}

fn endpoint(value: Option<&OsStr>) -> Result<Url, Failure> {
    let text = value.map_or_else(|| PUBLIC.into(), OsStr::to_string_lossy);
    let wrong = || {
        // an address may hold a password
        let message = format!("{} is no address of a hub", env::HF_ENDPOINT);
        unusable(message, "such as https://huggingface.co, or unset it")
    };
    let mut url = Url::parse(text.trim().trim_end_matches('/')).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong());
    }
    url.set_query(None);
    url.set_fragment(None);
    // the token is what says who asks
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| wrong())?;
    Ok(url)
}

fn unusable(message: String, hint: &str) -> Failure {
    Failure::new(Stage::Prepare, FailureKind::BadAnswer, message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn of(variables: &[(&str, &str)]) -> Result<Settings, Failure> {
        let mut all = Variables::default();
        for (name, value) in variables {
            all.set(name, *value);
        }
        Settings::of(&all)
    }

    #[test]
    fn the_cache_is_where_the_hugging_face_tools_have_it() {
        let cache = |variables: &[(&str, &str)]| of(variables).expect("settings").cache;
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
    fn what_cannot_be_meant_is_refused_by_name() {
        for (name, value) in [
            ("HF_ENDPOINT", "hub.example"),
            ("HF_ENDPOINT", "ftp://hub.example"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"),
            ("MODELGATE_HUB_RETRIES", "-1"),
            ("HF_TOKEN", "two words"),
        ] {
            let failure = of(&[(name, value)]).expect_err(name);
            assert!(failure.message.contains(name) && !failure.hint.is_empty(), "{failure}");
        }
        let settings = of(&[("HF_ENDPOINT", "https://me:word@hub.example/hf/?a=b")]);
        assert_eq!(settings.expect("settings").endpoint.as_str(), "https://hub.example/hf/");
    }

    #[test]
    fn offline_is_what_the_hugging_face_tools_take_for_it() {
        for (value, offline) in [("1", true), ("true", true), ("ON", true), ("0", false)] {
            for name in env::OFFLINE {
                assert_eq!(of(&[(name, value)]).expect("settings").offline, offline, "{value}");
            }
        }
        let both = [("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")];
        assert!(!of(&both).expect("settings").offline);
    }
}

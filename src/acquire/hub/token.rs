//! The token for the hub: where it is found, and that it is never shown.
//!
//! As the Hugging Face tools look for it: in the environment, then in the file that `hf auth login`
//! leaves. Knows no request and no answer.

use crate::env::{self, Variables};
use reqwest::header::HeaderValue;
use std::path::Path;

/// What stands in a text in a token's place.
const HIDDEN: &str = "[token]";

/// Longer files hold something else.
const LONGEST_FILE: u64 = 64 << 10;

/// A token. Printed, it shows where it is from.
#[derive(Clone)]
pub(super) struct Token {
    secret: String,
    origin: String,
}

impl Token {
    /// The token that `variables` lead to; `home` is the folder of the Hugging Face tools.
    ///
    /// # Errors
    /// What was found as a token cannot be one, and where.
    pub(super) fn find(variables: &Variables, home: &Path) -> Result<Option<Token>, String> {
        if variables.get(env::HF_HUB_DISABLE_IMPLICIT_TOKEN).is_some_and(env::is_true) {
            return Ok(None);
        }
        for name in env::TOKENS {
            if let Some(value) = variables.get(name) {
                let value = value.to_str().ok_or_else(|| malformed(name))?;
                if let Some(token) = Token::new(value, name.to_owned())? {
                    return Ok(Some(token));
                }
            }
        }
        let path = variables.path(env::HF_TOKEN_PATH).unwrap_or_else(|| home.join("token"));
        let is_small = std::fs::metadata(&path).is_ok_and(|file| file.len() <= LONGEST_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) if is_small => Token::new(&text, path.display().to_string()),
            _ => Ok(None),
        }
    }

    fn new(text: &str, origin: String) -> Result<Option<Token>, String> {
        // as the Hugging Face tools clean it
        let secret = text.replace(['\r', '\n'], "").trim().to_owned();
        if secret.is_empty() {
            return Ok(None);
        }
        let is_sound = secret.bytes().all(|byte| byte.is_ascii_graphic());
        if is_sound { Ok(Some(Token { secret, origin })) } else { Err(malformed(&origin)) }
    }

    /// What a request carries.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.secret)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The variable or the file that it is from.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// `text` without the token: a server may repeat what it was sent.
    pub(super) fn hide(&self, text: &str) -> String {
        text.replace(&self.secret, HIDDEN)
    }
}

fn malformed(origin: &str) -> String {
    format!("the token in {origin} holds characters that no token has")
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)], home: &Path) -> Option<(String, String)> {
        let mut all = Variables::default();
        for (name, value) in variables {
            all.set(name, *value);
        }
        let token = Token::find(&all, home).expect("sound");
        token.map(|token| (token.secret, token.origin))
    }

    #[test]
    fn it_is_found_where_the_hugging_face_tools_look() {
        let home = tempfile::tempdir().expect("a folder");
        assert_eq!(found(&[], home.path()), None);
        let file = home.path().join("token");
        std::fs::write(&file, "hf_file\n").expect("written");
        let of_login = Some(("hf_file".to_owned(), file.display().to_string()));
        assert_eq!(found(&[], home.path()), of_login);
        assert_eq!(found(&[("HF_TOKEN", " \n")], home.path()), of_login);
        let other = home.path().join("other");
        std::fs::write(&other, "hf_other").expect("written");
        let path = other.display().to_string();
        let by_path = [("HF_TOKEN_PATH", path.as_str())];
        assert_eq!(found(&by_path, home.path()), Some(("hf_other".into(), path.clone())));
        for name in env::TOKENS {
            let variables = [(name, "hf_variable\n"), by_path[0]];
            assert_eq!(found(&variables, home.path()), Some(("hf_variable".into(), name.into())));
        }
        let first = [("HUGGING_FACE_HUB_TOKEN", "hf_old"), ("HF_TOKEN", "hf_new")];
        assert_eq!(found(&first, home.path()), Some(("hf_new".into(), "HF_TOKEN".into())));
        let none = [("HF_TOKEN", "hf_new"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
        assert_eq!(found(&none, home.path()), None);
    }

    #[test]
    fn it_is_not_shown() {
        let token = Token::new("hf_secret", "HF_TOKEN".into()).expect("sound").expect("a token");
        assert_eq!(format!("{token:?} {:?}", token.header()), "Token(HF_TOKEN) Some(Sensitive)");
        assert_eq!(token.hide("no such token: hf_secret!"), "no such token: [token]!");
        let error = Token::new("hf secret", "HF_TOKEN".into()).expect_err("malformed");
        assert!(error.contains("HF_TOKEN") && !error.contains("secret"), "{error}");
    }
}

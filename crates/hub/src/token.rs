//! The token for the hub, which is never shown.
//!
//! It is searched in the same places as by the Hugging Face tools: in the environment, then in the
//! file that `hf auth login` writes.

use crate::token_file::{TokenFile, read_token_file};
use crate::variables::{self, Variables, is_true};
use reqwest::header::HeaderValue;
use std::path::{Path, PathBuf};

/// The text that replaces a token in messages.
const REPLACEMENT: &str = "[token]";

/// A token. The debug output shows only its origin.
#[derive(Clone)]
pub(crate) struct Token {
    secret: String,
    origin: String,
}

/// The result of the search for a token.
#[derive(Debug, Clone, Default)]
pub(crate) struct FoundToken {
    /// `None` if there is no token.
    pub(crate) token: Option<Token>,
    /// The file that was not read, because another user may have put it there.
    pub(crate) ignored_file: Option<PathBuf>,
}

impl FoundToken {
    fn of(token: Option<Token>) -> FoundToken {
        FoundToken { token, ignored_file: None }
    }
}

impl Token {
    /// Finds the token in `variables` or in a file: that in `HF_TOKEN_PATH`, otherwise
    /// `default_file`.
    ///
    /// # Errors
    /// The found text cannot be a token. The message contains the origin.
    pub(crate) fn find(
        variables: &Variables,
        default_file: Option<&Path>,
    ) -> Result<FoundToken, String> {
        if variables.get(variables::HF_HUB_DISABLE_IMPLICIT_TOKEN).is_some_and(is_true) {
            return Ok(FoundToken::default());
        }
        for name in variables::TOKENS {
            if let Some(value) = variables.get(name) {
                let value = value.to_str().ok_or_else(|| malformed(name))?;
                let token = Token::new(value, name.to_owned())?;
                if token.is_some() {
                    return Ok(FoundToken::of(token));
                }
            }
        }
        let path = variables.path(variables::HF_TOKEN_PATH);
        let Some(path) = path.as_deref().or(default_file) else {
            return Ok(FoundToken::default());
        };
        match read_token_file(path) {
            TokenFile::Text(text) => {
                Token::new(&text, path.display().to_string()).map(FoundToken::of)
            }
            TokenFile::Absent => Ok(FoundToken::default()),
            TokenFile::Untrusted => {
                Ok(FoundToken { token: None, ignored_file: Some(path.to_owned()) })
            }
        }
    }

    fn new(text: &str, origin: String) -> Result<Option<Token>, String> {
        // the Hugging Face tools clean the text in the same way
        let secret = text.replace(['\r', '\n'], "").trim().to_owned();
        if secret.is_empty() {
            return Ok(None);
        }
        let is_valid = secret.bytes().all(|byte| byte.is_ascii_graphic());
        if is_valid { Ok(Some(Token { secret, origin })) } else { Err(malformed(&origin)) }
    }

    /// Returns the value of the `Authorization` header of a request.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.secret)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Returns the variable or the file in which the token was found.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns `text` with the token replaced, because a server may repeat the token in an answer.
    pub(crate) fn hide(&self, text: &str) -> String {
        text.replace(&self.secret, REPLACEMENT)
    }
}

fn malformed(origin: &str) -> String {
    format!("the token in {origin} contains characters that are not allowed in a token")
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(all: &[(&str, &str)], default_file: &Path) -> Option<(String, String)> {
        let mut variables = Variables::default();
        for (name, value) in all {
            variables.set(name, *value);
        }
        let found = Token::find(&variables, Some(default_file)).expect("well-formed");
        found.token.map(|token| (token.secret, token.origin))
    }

    #[test]
    fn the_token_is_found_in_the_places_of_the_hugging_face_tools() {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join("token");
        assert_eq!(found(&[], &file), None);
        std::fs::write(&file, "hf_file\n").expect("written");
        let login_token = Some(("hf_file".to_owned(), file.display().to_string()));
        assert_eq!(found(&[], &file), login_token);
        assert_eq!(found(&[("HF_TOKEN", " \n")], &file), login_token);
        let other = home.path().join("other");
        std::fs::write(&other, "hf_other").expect("written");
        let path = other.display().to_string();
        let by_path = [("HF_TOKEN_PATH", path.as_str())];
        assert_eq!(found(&by_path, &file), Some(("hf_other".into(), path.clone())));
        for name in variables::TOKENS {
            let all = [(name, "hf_variable\n"), by_path[0]];
            assert_eq!(found(&all, &file), Some(("hf_variable".into(), name.into())));
        }
        let first = [("HUGGING_FACE_HUB_TOKEN", "hf_old"), ("HF_TOKEN", "hf_new")];
        assert_eq!(found(&first, &file), Some(("hf_new".into(), "HF_TOKEN".into())));
        let none = [("HF_TOKEN", "hf_new"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
        assert_eq!(found(&none, &file), None);
    }

    #[test]
    fn the_token_is_not_shown() {
        let token = Token::new("hf_secret", "HF_TOKEN".into());
        let token = token.expect("well-formed").expect("a token");
        assert_eq!(format!("{token:?} {:?}", token.header()), "Token(HF_TOKEN) Some(Sensitive)");
        assert_eq!(token.hide("no such token: hf_secret!"), "no such token: [token]!");
        let error = Token::new("hf secret", "HF_TOKEN".into()).expect_err("malformed");
        assert!(error.contains("HF_TOKEN") && !error.contains("secret"), "{error}");
    }
}

//! The tokens of a source file.

use crate::tokens::{LexError, Token, lex, without_tests};

/// A Rust source file.
#[derive(Debug, Clone)]
pub struct Source {
    /// The path from the root of the repository, with `/` as the separator.
    pub path: String,
    /// All tokens of the file.
    pub tokens: Vec<Token>,
    /// The tokens without test code.
    pub code: Vec<Token>,
}

impl Source {
    /// Reads the tokens of `text`, the content of the file at `path`.
    ///
    /// # Errors
    /// The text is not a sequence of valid tokens.
    pub fn parse(path: impl Into<String>, text: &str) -> Result<Source, LexError> {
        let path = path.into();
        let tokens = lex(text).map_err(|error| error.in_file(&path))?;
        let code = without_tests(&tokens);
        Ok(Source { path, tokens, code })
    }

    /// Returns whether the file is in `folder`, at any depth.
    pub fn is_in(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Returns the name of the file without its folders.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    #[cfg(test)]
    pub(crate) fn of(path: &str, text: &str) -> Source {
        Source::parse(path, text).expect("a valid example source")
    }
}

//! A source file as rules see it.

use crate::tokens::{Token, Unreadable, lex, without_tests};

/// A Rust source file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its path from the root of the repository, with `/` between its parts.
    pub path: String,
    /// All its tokens.
    pub tokens: Vec<Token>,
    /// Its tokens without those that only tests compile.
    pub code: Vec<Token>,
}

impl Source {
    /// Reads the tokens of `text`, the contents of the file at `path`.
    pub fn parse(path: impl Into<String>, text: &str) -> Result<Source, Unreadable> {
        let path = path.into();
        let tokens = lex(text).map_err(|error| error.in_file(&path))?;
        let code = without_tests(&tokens);
        Ok(Source { path, tokens, code })
    }

    /// Says whether it lies in `folder`, at any depth.
    pub fn is_in(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Returns the name of the file without its folders.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    #[cfg(test)]
    pub(crate) fn of(path: &str, text: &str) -> Source {
        Source::parse(path, text).expect("a source made up for a test has valid tokens")
    }
}

//! The metadata of a GGUF file, by type. Knows no key: what is asked of them, and what kind of
//! failure it is where they do not say it, is the concern of whoever asks.

use candle_core::quantized::gguf_file::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Metadata and the file that they are from. An error says which key is of which wrong type.
pub(crate) struct Metadata {
    path: PathBuf,
    values: HashMap<String, Value>,
}

impl Metadata {
    /// Those of the file at `path`.
    pub(crate) fn new(path: &Path, values: HashMap<String, Value>) -> Metadata {
        Metadata { path: path.to_owned(), values }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, String> {
        self.get(key, "no text", |value| value.to_string().ok().map(String::as_str))
    }

    /// A whole number of any width.
    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, String> {
        self.get(key, "not a single whole number", whole_number)
    }

    /// A finite number.
    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, String> {
        self.get(key, "not a finite number", |value| {
            let number = value.to_f32().map(f64::from).or_else(|_| value.to_f64()).ok();
            number.filter(|number| number.is_finite())
        })
    }

    /// True or false.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.get(key, "neither true nor false", |value| value.to_bool().ok())
    }

    /// A list.
    pub(crate) fn list(&self, key: &str) -> Result<Option<&[Value]>, String> {
        self.get(key, "no list", |value| value.to_vec().ok().map(Vec::as_slice))
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        wrong: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| format!("metadata: {key} is {wrong}"))
    }
}

/// A value that is a whole number, none where it is negative or something else.
pub(crate) fn whole_number(value: &Value) -> Option<u64> {
    let number = value.to_u64().ok();
    number.or_else(|| value.to_i32().ok().and_then(|number| u64::try_from(number).ok()))
}

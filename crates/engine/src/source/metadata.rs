//! The metadata of a GGUF file, by type. Knows no key: what is asked of them, and what kind of
//! failure it is where they do not say it, is the concern of whoever asks.
//!
//! Values are looked at here and not by candle's own functions, which write a value of another type out
//! as a text: a list of millions too.

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
        self.get(key, "no text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A whole number of any width.
    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, String> {
        self.get(key, "not a single whole number", whole_number)
    }

    /// A finite number.
    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, String> {
        self.get(key, "not a finite number", |value| {
            let number = match value {
                Value::F32(number) => f64::from(*number),
                Value::F64(number) => *number,
                _ => return None,
            };
            Some(number).filter(|number| number.is_finite())
        })
    }

    /// True or false.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.get(key, "neither true nor false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A list.
    pub(crate) fn list(&self, key: &str) -> Result<Option<&[Value]>, String> {
        self.get(key, "no list", |value| match value {
            Value::Array(values) => Some(values.as_slice()),
            _ => None,
        })
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
    match value {
        Value::U8(number) => Some(u64::from(*number)),
        Value::U16(number) => Some(u64::from(*number)),
        Value::U32(number) => Some(u64::from(*number)),
        Value::U64(number) => Some(*number),
        Value::I8(number) => u64::try_from(*number).ok(),
        Value::I16(number) => u64::try_from(*number).ok(),
        Value::I32(number) => u64::try_from(*number).ok(),
        Value::I64(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

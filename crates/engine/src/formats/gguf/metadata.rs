//! The metadata of a GGUF file, by type. Knows no key: which values are required, and what kind of
//! failure a missing one is, is the concern of the caller.
//!
//! Values are not read by candle's own functions, since these format a value of another type for their
//! error: a list of millions too.

use candle_core::quantized::gguf_file::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Metadata and their file. An error names the key whose value has the wrong type.
pub(super) struct Metadata {
    path: PathBuf,
    values: HashMap<String, Value>,
}

impl Metadata {
    /// Creates the metadata of the file at `path`.
    pub(super) fn new(path: &Path, values: HashMap<String, Value>) -> Metadata {
        Metadata { path: path.to_owned(), values }
    }

    /// Returns the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, String> {
        self.get(key, "no text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Reads a whole number of any width.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, String> {
        self.get(key, "not a single integer", whole_number)
    }

    /// Reads a finite number.
    pub(super) fn float(&self, key: &str) -> Result<Option<f64>, String> {
        self.get(key, "not a finite number", |value| {
            let number = match value {
                Value::F32(number) => f64::from(*number),
                Value::F64(number) => *number,
                _ => return None,
            };
            Some(number).filter(|number| number.is_finite())
        })
    }

    /// Reads a flag.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.get(key, "not a boolean", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// Reads a list.
    pub(super) fn list(&self, key: &str) -> Result<Option<&[Value]>, String> {
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

/// Returns a value as a whole number; `None` if it is negative or something else.
pub(super) fn whole_number(value: &Value) -> Option<u64> {
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
